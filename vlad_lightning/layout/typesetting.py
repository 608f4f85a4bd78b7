"""Words set as a typesetter would: letters of one size and of their font's proportions, on straight lines.

A layout generator that places every word by itself knows nothing of letters: its boxes squeeze and stretch them, and
the words of a line stand at different heights. Typesetting keeps what it decided, where a phrase stands, how large it
is and roughly where its lines break, and sets the words anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

import torch
from torch import Tensor

from vlad_lightning.layout.ink import MEASURE, Ink, ink_of
from vlad_lightning.layout.overlaps import resolve_overlaps
from vlad_lightning.layout.paragraph import Align

_SPACE = 0.5  # between the inks of two words of a line, in font sizes
_LEADING = 0.3  # between the inks of two neighbouring lines, in font sizes
_MARGIN = 0.035  # of the frame, left free on each side, as on synthetic posters
_MOST_TURN = math.radians(20)  # a phrase whose words are turned further from each other is left as it is
_MOST_BREAKS = 7  # with more places to break a line, words stay in the lines that they are in
_SHRINKING_COSTS = 0.5  # letters at half their size cost as much as words that are half of the frame off


@dataclass(frozen=True)
class _Setting:
    """A phrase set around (0, 0): each word's ink as left, top, right, bottom in font sizes."""

    boxes: tuple[tuple[float, float, float, float], ...]
    width: float
    height: float


@dataclass(frozen=True)
class _Block:
    """A phrase with its place.

    Attributes:
        members: the indices of its words.
        setting: its words.
        x: centre, a fraction of the frame.
        y: centre.
        size: the font size, a fraction of the frame.
        angle: radians.
    """

    members: tuple[int, ...]
    setting: _Setting
    x: float
    y: float
    size: float
    angle: float

    @property
    def box(self) -> list[float]:
        return [self.x, self.y, self.setting.width * self.size, self.setting.height * self.size, self.angle]


def typeset(
    words: Sequence[str], boxes: Tensor, groups: Sequence[int], fonts: Sequence[str | None] = ()
) -> tuple[Tensor, int]:
    """Set the words of each phrase anew, near their boxes.

    A phrase keeps the mean position and the mean angle of its boxes, and the size that gives its letters the boxes'
    area, or a smaller one with which it fits into the frame. Of all ways to break and to align its lines, the one is
    chosen whose words are nearest to their boxes. A phrase whose boxes are turned in different directions, or have no
    area, is left as it is. Phrases that overlap are then moved apart as wholes
    (:func:`~vlad_lightning.layout.overlaps.resolve_overlaps`).

    Args:
        words: N words in reading order.
        boxes: (N, 5) float32, as in :class:`~vlad_lightning.types.Layout`.
        groups: for each word, the index of its phrase.
        fonts: N font files, None for the default one; empty is the default one for all.

    Returns:
        (N, 5) float32, and how many of the words were moved because phrases overlapped.
    """
    inks = [ink_of(word, font) for word, font in zip(words, fonts or (None,) * len(words), strict=True)]
    placed = boxes.tolist()
    blocks = []
    for group in dict.fromkeys(groups):
        members = tuple(i for i, each in enumerate(groups) if each == group)
        block = _set(members, [inks[i] for i in members], [placed[i] for i in members])
        if block is not None:
            blocks.append(block)
    if not blocks:
        return boxes, 0
    result = boxes.clone()
    for block in blocks:
        result[list(block.members)] = _word_boxes(block, block.box, boxes)
    if len(blocks) < len(set(groups)):  # words that were left as they are may be anywhere
        return result, 0
    given = boxes.new_tensor([block.box for block in blocks])
    apart = resolve_overlaps(given, range(len(blocks))).boxes
    moved = 0
    for block, before, after in zip(blocks, given, apart, strict=True):
        if not torch.equal(before, after):
            result[list(block.members)] = _word_boxes(block, after.tolist(), boxes)
            moved += len(block.members)
    return result, moved


def _set(members: tuple[int, ...], inks: Sequence[Ink], boxes: Sequence[Sequence[float]]) -> _Block | None:
    """Set a phrase near its words' boxes; None if these cannot be followed."""
    if not all(math.isfinite(number) for box in boxes for number in box) or min(min(box[2:4]) for box in boxes) <= 0:
        return None
    angle = math.atan2(sum(math.sin(box[4]) for box in boxes), sum(math.cos(box[4]) for box in boxes))
    if max(abs(math.remainder(box[4] - angle, math.tau)) for box in boxes) > _MOST_TURN:
        return None
    x, y = (sum(box[axis] for box in boxes) / len(boxes) for axis in (0, 1))
    cos, sin = math.cos(angle), math.sin(angle)
    centres = [(cos * (bx - x) + sin * (by - y), cos * (by - y) - sin * (bx - x)) for bx, by, *_ in boxes]
    size = _size(inks, boxes)
    best = None
    for lines in _breaks(centres, [box[3] for box in boxes]):
        for align in get_args(Align):
            setting = _lined(inks, lines, align)
            fits = min(size, _largest(setting, angle))
            cost = _distance(setting, fits, centres) + _SHRINKING_COSTS**2 * math.log2(size / fits) ** 2
            if best is None or cost < best[0]:
                best = cost, setting, fits
    assert best is not None
    _, setting, fits = best
    return _inside(_Block(members, setting, x, y, fits, angle))


def _size(inks: Sequence[Ink], boxes: Sequence[Sequence[float]]) -> float:
    """Return the font size at which the words' ink has the area of their boxes, in the geometric mean."""
    logs = [
        math.log(box[2] * box[3] / ((ink.right - ink.left) * (ink.bottom - ink.top)))
        for ink, box in zip(inks, boxes, strict=True)
    ]
    return MEASURE * math.exp(sum(logs) / len(logs) / 2)


def _breaks(centres: Sequence[tuple[float, float]], heights: Sequence[float]) -> Iterator[list[list[int]]]:
    """Yield ways to break words into lines: all of them, or, for many words, the one that their boxes are in."""
    places = len(centres) - 1
    if places > _MOST_BREAKS:
        limits = [max(heights[i], heights[i + 1]) / 2 for i in range(places)]
        follows = [
            abs(centres[i + 1][1] - centres[i][1]) <= limits[i] and centres[i + 1][0] > centres[i][0]
            for i in range(places)
        ]
        yield _broken([not each for each in follows])
        return
    for chosen in product((False, True), repeat=places):
        yield _broken(chosen)


def _broken(after: Sequence[bool]) -> list[list[int]]:
    lines = [[0]]
    for i, breaks in enumerate(after, start=1):
        if breaks:
            lines.append([])
        lines[-1].append(i)
    return lines


def _lined(inks: Sequence[Ink], lines: Sequence[Sequence[int]], align: Align) -> _Setting:
    """Set words on lines, each line's words on one baseline."""
    share = {"left": 0.0, "centre": 0.5, "right": 1.0}[align]
    space, leading = _SPACE * MEASURE, _LEADING * MEASURE
    widths = [sum(inks[i].right - inks[i].left for i in line) + space * (len(line) - 1) for line in lines]
    boxes: list[tuple[float, float, float, float]] = []
    baseline, bottom = 0.0, None
    for line, width in zip(lines, widths, strict=True):
        if bottom is not None:
            baseline = bottom + leading - min(inks[i].top for i in line)
        left = share * (max(widths) - width)
        for i in line:
            right = left + inks[i].right - inks[i].left
            boxes.append((left, baseline + inks[i].top, right, baseline + inks[i].bottom))
            left = right + space
        bottom = baseline + max(inks[i].bottom for i in line)
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    x, y = max(widths) / 2, (top + bottom) / 2
    around = tuple(
        ((left - x) / MEASURE, (above - y) / MEASURE, (right - x) / MEASURE, (below - y) / MEASURE)
        for left, above, right, below in boxes
    )
    return _Setting(around, max(widths) / MEASURE, (bottom - top) / MEASURE)


def _largest(setting: _Setting, angle: float) -> float:
    """Return the largest font size with which a turned phrase fits into the frame."""
    across, down = _extent(setting, angle)
    return (1 - 2 * _MARGIN) / max(across, down)


def _extent(setting: _Setting, angle: float) -> tuple[float, float]:
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    return setting.width * cos + setting.height * sin, setting.width * sin + setting.height * cos


def _distance(setting: _Setting, size: float, centres: Sequence[tuple[float, float]]) -> float:
    """Return the mean squared distance of the words from their boxes, around the means of both."""
    own = [(size * (left + right) / 2, size * (top + bottom) / 2) for left, top, right, bottom in setting.boxes]
    x, y = (sum(point[axis] for point in own) / len(own) for axis in (0, 1))
    return sum((ox - x - cx) ** 2 + (oy - y - cy) ** 2 for (ox, oy), (cx, cy) in zip(own, centres, strict=True)) / len(
        own
    )


def _inside(block: _Block) -> _Block:
    """Place a phrase so that the mean of its words stays, and as far as it must be moved to lie in the frame."""
    own = block.setting.boxes
    mean_x, mean_y = (sum(box[axis] + box[axis + 2] for box in own) / 2 / len(own) * block.size for axis in (0, 1))
    cos, sin = math.cos(block.angle), math.sin(block.angle)
    x, y = block.x - (cos * mean_x - sin * mean_y), block.y - (sin * mean_x + cos * mean_y)
    across, down = (side * block.size / 2 + _MARGIN for side in _extent(block.setting, block.angle))
    x, y = min(max(x, across), 1 - across), min(max(y, down), 1 - down)
    return _Block(block.members, block.setting, x, y, block.size, block.angle)


def _word_boxes(block: _Block, box: Sequence[float], like: Tensor) -> Tensor:
    """Return the boxes (N, 5) of a phrase's words, given the box of the whole."""
    x, y, width, _, angle = box
    size = width / block.setting.width
    cos, sin = math.cos(angle), math.sin(angle)
    rows = []
    for left, top, right, bottom in block.setting.boxes:
        across, down = size * (left + right) / 2, size * (top + bottom) / 2
        centre = x + cos * across - sin * down, y + sin * across + cos * down
        rows.append([*centre, size * (right - left), size * (bottom - top), angle])
    return like.new_tensor(rows)
