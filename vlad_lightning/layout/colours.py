"""Colours by name: those that posters are drawn in and that metrics look for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from PIL import ImageColor

RGB = tuple[int, int, int]

PALETTE: dict[str, RGB] = {
    "red": (215, 35, 40),
    "orange": (250, 135, 15),
    "yellow": (250, 220, 45),
    "green": (35, 145, 65),
    "blue": (35, 80, 205),
    "purple": (130, 45, 165),
    "pink": (250, 150, 195),
    "brown": (120, 72, 35),
    "black": (18, 18, 20),
    "gray": (128, 128, 128),
    "white": (245, 245, 245),
}
"""Well separated colours as sRGB bytes, each under its everyday name."""

MIN_CONTRAST = 3.5
"""Lowest contrast ratio at which letters are readable on what is under them."""

SEEN = 85.0
"""Least distance in sRGB at which an object is seen on its background."""


_NAMED = ImageColor.colormap | {name: f"#{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in PALETTE.items()}
_NAMED["grey"] = _NAMED["gray"]


@lru_cache(maxsize=4096)
def rgb_named(name: str) -> RGB | None:
    """Return a colour by its name in :data:`PALETTE`, else in CSS (``gold``, ``dark red``), or by its ``#rrggbb``.

    Returns:
        sRGB bytes; None for an unknown name.

    Example:
        >>> rgb_named("Dark Red"), rgb_named("#ff8000"), rgb_named("shiny")
        ((139, 0, 0), (255, 128, 0), None)
    """
    wanted = name.casefold().replace(" ", "")
    code = wanted if re.fullmatch("#[0-9a-f]{6}", wanted) else _NAMED.get(wanted)
    if code is None:
        return None
    red, green, blue = ImageColor.getrgb(code)[:3]
    return red, green, blue


def nearest_colours(pixels: ArrayLike) -> np.ndarray:
    """Find the palette colour nearest to each pixel, by the Euclidean distance in sRGB.

    Args:
        pixels: (..., 3), sRGB values in [0, 255].

    Returns:
        (...) int64, indices into the order of :data:`PALETTE`.
    """
    values = np.asarray(pixels, dtype=np.float32)[..., None, :]
    palette = np.asarray(list(PALETTE.values()), dtype=np.float32)
    return ((values - palette) ** 2).sum(-1).argmin(-1)


def luminance(rgb: Sequence[float]) -> float:
    """Compute the relative luminance in [0, 1] of an sRGB colour in [0, 255], as WCAG 2.2 defines it."""
    return _luminance(tuple(rgb))


@lru_cache(maxsize=4096)
def _luminance(rgb: tuple[float, ...]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the contrast ratio of two sRGB colours, as WCAG 2.2 defines it: from 1 (the same) to 21 (black on white).

    Example:
        >>> round(contrast((0, 0, 0), (255, 255, 255)))
        21
    """
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def is_far(colour: RGB, shades: Sequence[RGB], far: float = SEEN) -> bool:
    """Return whether an object in a colour can be seen on a background in these shades."""
    return min(math.dist(colour, shade) for shade in shades) > far
