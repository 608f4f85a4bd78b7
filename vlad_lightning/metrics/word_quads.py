"""The words of a line of text that an OCR engine has read, each with its own corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vlad_lightning.layout.fonts import load_font

_TALL = 1.5  # heights over widths from which RapidOCR reads a line from top to bottom
_MEASURE = 64  # font size at which a line is measured


def words_of_line(line: str, quad: ArrayLike, located: Sequence[tuple[str, ArrayLike]] = ()) -> list[tuple[str, Any]]:
    """Cut a line into its words.

    Args:
        line: the text of the line, with spaces between its words.
        quad: (4, 2), the line's corners in pixels, clockwise from the top left.
        located: the words that the engine itself has located, with their corners; they count only if they are those
            between the line's spaces, since engines also cut at gaps inside a word, and Chinese into characters.

    Returns:
        Each word with its corners (4, 2) float64: those of ``located``, or a part of ``quad`` as wide as the word is in
        a common font.
    """
    words = line.split()
    if [text for text, _ in located] == words:
        return [(text, np.asarray(corners, dtype=np.float64)) for text, corners in located]
    corners = np.asarray(quad, dtype=np.float64)
    width, height = np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[3] - corners[0])
    if len(words) > 1 and height >= _TALL * width:
        corners = np.roll(corners, -1, axis=0)  # from the top right corner downwards
    return [(word, _part(corners, *ends)) for word, ends in zip(words, _extents(words), strict=True)]


def _extents(words: Sequence[str]) -> list[tuple[float, float]]:
    """Return where each word starts and ends, in fractions of the line's length."""
    font = load_font(None, _MEASURE)
    total = font.getlength(" ".join(words))
    starts = [font.getlength("".join(f"{word} " for word in words[:i])) for i in range(len(words))]
    return [
        (start / total, min(1.0, (start + font.getlength(word)) / total))
        for start, word in zip(starts, words, strict=True)
    ]


def _part(corners: np.ndarray, start: float, end: float) -> np.ndarray:
    (first, second, third, fourth), ends = corners, np.array([start, end])[:, None]
    upper, lower = first + (second - first) * ends, fourth + (third - fourth) * ends
    return np.stack([upper[0], upper[1], lower[1], lower[0]])
