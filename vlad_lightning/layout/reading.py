"""The reading order of the words read on an image: along a line, then on to the next line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

# In heights of the taller of two words. An OCR engine's boxes are a little too large, so that neighbours may overlap.
_SPACE = (-0.5, 1.5)  # between two words of a line
_LEADING = (-0.25, 1.2)  # between a line and the next line
_INDENT = 1.5  # how far the next line may lie beside the line above it
_HEIGHT_RATIO = 2.5  # `(gym)` is that many times as tall as `on` in letters of one size
_SHARED_HEIGHT = 0.5  # of the shorter word's height, with a neighbour on the same line


class Reading:
    """The words of an image. They are claimed one by one, each at most once.

    Args:
        words: normalised for comparison.
        quads: (N, 4, 2) float, the corners of each word, in any unit, clockwise from the one at which it starts. None
            means that each word is followed by the next in ``words``.

    Raises:
        ValueError: if ``quads`` has another shape.
    """

    def __init__(self, words: Sequence[str], quads: ArrayLike | None = None) -> None:
        self._words = list(words)
        self._quads = None if quads is None else np.asarray(quads, dtype=np.float64)
        if self._quads is not None and self._quads.shape != (len(words), 4, 2) and (words or self._quads.size):
            raise ValueError(f"quads has shape {self._quads.shape}; {len(words)} words need ({len(words)}, 4, 2)")
        self._free: dict[str, list[int]] = defaultdict(list)
        for i, word in enumerate(self._words):
            self._free[word].append(i)
        self._below: dict[int, list[int]] = {}  # the first words of the lines below, by the last word of a line

    def __contains__(self, word: str) -> bool:
        """Return whether a free word equals ``word``."""
        return bool(self._free.get(word))

    def claim(self, word: str, last: int | None = None, following: str | None = None) -> int | None:
        """Claim a free word that equals ``word``; return its index in ``words``, or None if there is none.

        Of several, a word that continues the word at ``last`` is preferred, then one that a free word equal to
        ``following`` continues.
        """
        free = self._free.get(word)
        if not free:
            return None
        if len(free) == 1:
            return free.pop()
        found = next((i for i in free if last is not None and self.continues(last, i)), None)
        if found is None and following is not None:
            others = self._free.get(following, ())
            found = next((i for i in free if any(self.continues(i, other) for other in others)), None)
        found = free[0] if found is None else found
        free.remove(found)
        return found

    def continues(self, first: int, second: int) -> bool:
        """Return whether the word at ``second`` directly follows the word at ``first``, on its line or on the next."""
        if self._quads is None:
            return second == first + 1
        return self._next_on_line.get(first) == second or second in self._starts_next_line(first)

    @cached_property
    def _boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """Left, top, right, bottom of word j in the axes of word i, (N, N, 4); the greater of both heights, (N, N).

        The axes of a word start at its centre and have its angle. The height is 0 if the two heights differ too much.
        """
        assert self._quads is not None
        quads = self._quads
        across = _unit(quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3])
        axes = np.stack([across, np.stack([-across[:, 1], across[:, 0]], axis=-1)], axis=-1)  # (N, 2, 2)
        corners = (quads[None] - quads.mean(axis=1)[:, None, None]) @ axes[:, None]  # (N, N, 4, 2)
        boxes = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)
        own = np.linalg.norm(quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1], axis=-1) / 2
        higher, lower = np.maximum(own[:, None], own), np.minimum(own[:, None], own)
        return boxes, np.where(higher <= _HEIGHT_RATIO * lower, higher, 0.0)

    @cached_property
    def _next_on_line(self) -> dict[int, int]:
        boxes, height = self._boxes
        own = np.einsum("iik->ik", boxes)[:, None]  # (N, 1, 4): each in its own axes
        shared = np.minimum(own[..., 3], boxes[..., 3]) - np.maximum(own[..., 1], boxes[..., 1])
        lower = np.minimum(own[..., 3] - own[..., 1], boxes[..., 3] - boxes[..., 1])
        gap = boxes[..., 0] - own[..., 2]
        after = (height > 0) & (shared >= _SHARED_HEIGHT * lower)
        after &= (gap >= _SPACE[0] * height) & (gap <= _SPACE[1] * height)
        np.fill_diagonal(after, False)
        gap = np.where(after, gap, np.inf)
        return {i: int(gap[i].argmin()) for i in range(len(gap)) if after[i].any()}

    @cached_property
    def _lines(self) -> dict[int, list[int]]:
        """The words of each line by its last word."""
        continued = set(self._next_on_line.values())
        starts = [i for i in range(len(self._words)) if i not in continued]
        return {line[-1]: line for start in starts if (line := self._line(start))}

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """The words of all lines, line by line, and the place of each line's first word among them."""
        lines = self._lines.values()
        return np.concatenate([*map(np.asarray, lines)]), np.cumsum([0, *map(len, lines)])[:-1]

    def _starts_next_line(self, end: int) -> Collection[int]:
        """Return the words that begin the line right below the one that the word at ``end`` ends."""
        if end not in self._lines:
            return ()
        if end not in self._below:
            self._below[end] = self._find_below(end)
        return self._below[end]

    def _find_below(self, end: int) -> list[int]:
        boxes, height = self._boxes
        order, firsts = self._order
        starts, number = order[firsts], list(self._lines).index(end)
        seen = boxes[end, order]
        left, top = np.minimum.reduceat(seen[:, :2], firsts).T  # (L,) each: the box around each line
        right, bottom = np.maximum.reduceat(seen[:, 2:], firsts).T
        gap, size = top - bottom[number], height[end, starts]
        beside = np.maximum(left - right[number], left[number] - right)
        below = (size > 0) & (gap >= _LEADING[0] * size) & (gap <= _LEADING[1] * size) & (beside <= _INDENT * size)
        below[number] = False
        if not below.any():
            return []
        nearest = (bottom - bottom[number])[below].min()  # the lower edge of the line right below
        return [int(start) for start in starts[below & (gap < nearest)]]

    def _line(self, start: int) -> list[int]:
        line = [start]
        while (following := self._next_on_line.get(line[-1])) is not None and following not in line:
            line.append(following)
        return line


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1; a zero vector becomes (1, 0)."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1.0), (1.0, 0.0))
