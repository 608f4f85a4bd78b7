"""The character that each pixel of a picture shows, from the words that were read on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlad_lightning.data.mario import CHARSEG_SIDE, UNKNOWN, character_class
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.word_ink import ink_of, part_of, straightened
from vlad_lightning.layout.fonts import load_font

_MARGINS = (0.15, 0.08, 0.04)  # shares of a word's height around its box, in which its ground is seen
_SMALLEST = 2.0  # pixels of the map: sides of a box in which letters are told apart
_FONT_PIXELS = 64
_INK = 4.0  # the cost of a border through a column full of ink, and of a character without ink; see _borders
_COLUMNS = 240  # a word is divided at this many places at most


def character_map(image: Image.Image, words: Sequence[OcrWord], side: int = CHARSEG_SIDE) -> np.ndarray:
    """Tell which pixels of a picture show which character, as in MARIO's ``charseg.npy``.

    The characters of a word divide its box by their widths in the default font; the borders between them move to where
    there is little ink.

    Args:
        image: the picture, RGB.
        words: the words that were read, with their corners.
        side: height and width of the map, which has the frame of the stretched picture.

    Returns:
        (side, side) int64: 0 where there is no ink, else :func:`~vlad_lightning.data.mario.character_class`;
        :data:`~vlad_lightning.data.mario.UNKNOWN` for characters that MARIO does not have, and in boxes whose
        ink cannot be told from its ground.
    """
    classes = np.zeros((side, side), dtype=np.int64)
    for word in words:
        corners = np.asarray(word.quad, dtype=np.float64) * side
        if np.isfinite(corners).all():
            _put(classes, corners, _strip(image, word, *_sides(corners)))
    return classes


def _sides(corners: np.ndarray) -> tuple[float, float]:
    across, down = _axes(corners)
    return float(np.linalg.norm(across)), float(np.linalg.norm(down))


def _axes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors along and across the reading direction of the box nearest to four corners."""
    return (corners[1] - corners[0] + corners[2] - corners[3]) / 2, (
        corners[3] - corners[0] + corners[2] - corners[1]
    ) / 2


def _strip(image: Image.Image, word: OcrWord, width: float, height: float) -> np.ndarray:
    """Return the classes of a word, (h, w) int64, upright and at twice the pixels of the map."""
    shape = max(1, math.ceil(2 * height)), max(1, math.ceil(2 * width))
    unknown = np.full(shape, UNKNOWN, dtype=np.int64)
    text = word.text.strip()
    if min(width, height) < _SMALLEST or not text:
        return unknown
    ink = _ink(image, word.quad)
    if ink is None:
        return unknown
    fine = Image.fromarray(ink.astype(np.uint8) * 255).resize(shape[::-1], Image.Resampling.BOX)
    inside = np.asarray(fine) >= 128
    ends = _borders(ink.mean(axis=0), _widths(text), np.array([character.isspace() for character in text]))
    column = np.searchsorted(ends, (np.arange(shape[1]) + 0.5) / shape[1]).clip(max=len(text) - 1)
    known = np.array([character_class(character) or UNKNOWN for character in text])
    return np.where(inside, known[column], 0)


def _ink(image: Image.Image, quad: np.ndarray) -> np.ndarray | None:
    """Return the ink inside a word's box, (h, w) bool; None if it cannot be told from its ground."""
    size = np.array(image.size)
    corners = np.asarray(quad, dtype=np.float64) * size
    width, height = _sides(corners)
    for margin in _MARGINS:
        share = margin * height / width, margin
        around = part_of(corners, (-share[0], -share[1], 1 + share[0], 1 + share[1]))
        if (around >= 0).all() and (around <= size).all():
            break
    else:
        around, share = corners.clip(0, size), (0.0, 0.0)
    ink = ink_of(straightened(image, around))
    if ink is None:
        return None
    rows, columns = ink.shape
    left, top = round(share[0] / (1 + 2 * share[0]) * columns), round(share[1] / (1 + 2 * share[1]) * rows)
    return ink[top : rows - top, left : columns - left]


def _widths(text: str) -> np.ndarray:
    """Return the characters' widths in the default font, (N,) float64, with the sum 1."""
    font = load_font(None, _FONT_PIXELS)
    left, _, right, _ = font.getbbox(text)
    ends = np.array([font.getlength(text[:end]) for end in range(1, len(text))])
    ends = np.concatenate([[left], ends, [right]])
    widths = np.diff(ends).clip(min=1e-3)
    return np.asarray(widths / widths.sum())


def _borders(ink: np.ndarray, widths: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Return where each of N characters but the last one ends, (N - 1,) float64 in fractions of the width.

    Of all ascending borders, those are taken, by dynamic programming, that cost least: the squared errors of the
    widths, in units of the mean width, the ink that is cut, and characters without ink or spaces with it.

    Args:
        ink: share of ink in each column, (w,) float64.
        widths: the expected widths, (N,), with the sum 1.
        blank: which characters are spaces, (N,) bool.
    """
    count = len(widths)
    places = min(len(ink), _COLUMNS)
    at = np.arange(places + 1) / places
    columns = (np.arange(len(ink)) + 0.5) / len(ink)
    cut = _INK * np.interp(at, columns, ink)
    cut[[0, -1]] = 0.0
    so_far = np.concatenate([[0.0], np.cumsum(ink)])[np.round(at * len(ink)).astype(int)]
    empty = so_far[None, :] == so_far[:, None]  # (from, to)
    gap = at[None, :] - at[:, None]
    cost = np.where(at == 0, 0.0, np.inf)
    chosen = []
    for width, is_blank in zip(widths, blank, strict=True):
        wrong = _INK * (empty != is_blank)
        total = cost[:, None] + np.where(gap > 0, ((gap - width) * count) ** 2 + wrong, np.inf)
        chosen.append(total.argmin(axis=0))
        cost = total.min(axis=0) + cut
    if not np.isfinite(cost[-1]):  # more characters than places
        return np.cumsum(widths)[:-1]
    place, starts = places, []
    for best in reversed(chosen):
        place = int(best[place])
        starts.append(at[place])
    return np.array(starts[-2::-1])


def _put(classes: np.ndarray, corners: np.ndarray, strip: np.ndarray) -> None:
    """Write the classes of a word, upright (h, w), into the pixels of a map whose centres lie in its box."""
    across, down = _axes(corners)
    matrix = np.stack([across, down], axis=1)
    if abs(np.linalg.det(matrix)) < 1e-9:
        return
    side = len(classes)
    low, high = np.floor(corners.min(axis=0)).clip(0, side), np.ceil(corners.max(axis=0)).clip(0, side)
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    start = corners.mean(axis=0) - (across + down) / 2
    inside = np.stack([x + 0.5 - start[0], y + 0.5 - start[1]], axis=-1) @ np.linalg.inv(matrix).T  # (rows, columns, 2)
    within = ((inside >= 0) & (inside < 1)).all(axis=-1)
    column, row = ((inside[within][:, axis] * strip.shape[1 - axis]).astype(int) for axis in (0, 1))
    found = strip[row, column]
    rows, columns = y[within].astype(int)[found > 0], x[within].astype(int)[found > 0]
    classes[rows, columns] = found[found > 0]
