"""A word's ink inside the box that an OCR engine gives, and the box of this ink, which is smaller."""

from __future__ import annotations

import numpy as np
from PIL import Image

_BESIDE = 0.1  # share of the height by which ink may go on at the left and right of the engine's box
_SMALLEST = 4  # pixels: sides of a box in which nothing is looked for
_CONTRAST = 40.0  # levels of 255 by which ink differs from its ground
_MIXED = 0.3  # share of the border that may be ink; with more, the ground is no single colour
_LEAST = 0.3  # share of the box's sides that ink has; less is a speck


def tight_quad(image: Image.Image, quad: np.ndarray) -> np.ndarray:
    """Shrink a word's box to its ink, as the rasteriser fills boxes with ink.

    Args:
        image: the picture, RGB.
        quad: (4, 2), corners in fractions of the picture, clockwise from the one at which the word starts.

    Returns:
        (4, 2) float32: a part of the box, or ``quad`` where the ink does not stand out from a ground of one colour.
    """
    size = np.array(image.size)
    corners = np.asarray(quad, dtype=np.float64) * size
    width, height = (float(np.linalg.norm(corners[i] - corners[0])) for i in (1, 3))
    if not np.isfinite(corners).all() or min(width, height) < _SMALLEST:
        return quad
    beside = _BESIDE * height / width
    wide = part_of(corners, (-beside, 0.0, 1 + beside, 1.0))
    if (wide < 0).any() or (wide > size).any():
        wide = corners.clip(0, size)  # nothing is known of what is outside
    box = _ink_box(straightened(image, wide))
    return quad if box is None else (part_of(wide, box) / size).astype(np.float32)


def straightened(image: Image.Image, corners: np.ndarray) -> np.ndarray:
    """Return the content of a box, (h, w, 3) float64 in [0, 255], the word's start at the left.

    Args:
        image: the picture, RGB.
        corners: (4, 2) in pixels, clockwise from the one at which the word starts.
    """
    width, height = (max(1, round(float(np.linalg.norm(corners[i] - corners[0])))) for i in (1, 3))
    order = corners[[0, 3, 2, 1]].ravel().tolist()  # Pillow goes round the other way
    return np.asarray(
        image.transform((width, height), Image.Transform.QUAD, order, Image.Resampling.BILINEAR), dtype=np.float64
    )


def ink_of(strip: np.ndarray) -> np.ndarray | None:
    """Tell the ink of a word from its ground.

    Args:
        strip: (h, w, 3) float64 in [0, 255]: a word with some of its ground around it.

    Returns:
        (h, w) bool; None where the ink does not stand out from a ground of one colour.
    """
    border = np.concatenate([strip[0], strip[-1], strip[:, 0], strip[:, -1]])
    difference = np.abs(strip - np.median(border, axis=0)).max(axis=-1)
    ink = difference > max(_CONTRAST, np.quantile(difference, 0.98) / 2)
    edges = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    return ink if ink.any() and edges.mean() <= _MIXED else None


def _ink_box(strip: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of the ink in fractions of a strip; None if it cannot be told from its ground."""
    ink = ink_of(strip)
    if ink is None:
        return None
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    (left, right), (top, bottom) = ((found[0], found[-1] + 1) for found in (columns, rows))
    height, width = ink.shape
    if right - left < _LEAST * width or bottom - top < _LEAST * height:
        return None
    return left / width, top / height, right / width, bottom / height


def part_of(corners: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return the corners of a part of a box, given by left, top, right, bottom in fractions of it."""
    across, down = np.array([box[0], box[2], box[2], box[0]]), np.array([box[1], box[1], box[3], box[3]])
    upper = corners[0] + across[:, None] * (corners[1] - corners[0])
    lower = corners[3] + across[:, None] * (corners[2] - corners[3])
    found: np.ndarray = upper + down[:, None] * (lower - upper)
    return found
