"""Patterns of a background: their names in a phrase, and how bright they are at each pixel."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("gradient", "striped", "dotted", "banded")
"""The patterns that are the same wherever no caption tells more of them (the literal world)."""

CONTRAST = 0.16
"""How far the two shades of such a pattern are from its colour, on the way to black and to white."""

_WORD = re.compile(r"[^\W\d_]+")
_NAMES = {
    "gradient": "gradient",
    "striped": "striped",
    "stripy": "striped",
    "stripes": "striped",
    "dotted": "dotted",
    "dots": "dotted",
    "polka": "dotted",
    "spotted": "dotted",
    "banded": "banded",
    "bands": "banded",
}
_DOT = 0.07  # squared radius, in periods


def pattern_named(phrase: str) -> str | None:
    """Return the pattern that a phrase names.

    Returns:
        One of :data:`PATTERNS`; None if the phrase names none, or several.

    Example:
        >>> [pattern_named(phrase) for phrase in ("a striped blue background", "polka dots", "a red gradient", "stars")]
        ['striped', 'dotted', 'gradient', None]
    """
    found = {_NAMES[word] for word in _WORD.findall(phrase.casefold()) if word in _NAMES}
    return found.pop() if len(found) == 1 else None


def usual_angle(kind: str) -> float:
    """Return the direction of a pattern of which no more is told, in radians: stripes rise, gradients go down."""
    return math.pi / 2 if kind == "gradient" else math.pi / 4


def usual_period(kind: str) -> float:
    """Return its period as a fraction of the frame: there are whole numbers of stripes, dots and bands."""
    return 0.25 if kind == "banded" else 0.125


def pattern(kind: str, size: tuple[int, int], angle: float, period: float) -> NDArray[np.float32]:
    """Draw a pattern: the share of its second shade at each pixel.

    Args:
        kind: one of :data:`PATTERNS`.
        size: height and width in pixels.
        angle: direction of a gradient or of stripes, in radians.
        period: distance between stripes, dots or bands, a fraction of the frame.

    Returns:
        (H, W) in [0, 1].

    Raises:
        ValueError: for another ``kind``.
    """
    height, width = size
    x = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None]
    slope = math.cos(angle) * x + math.sin(angle) * y
    match kind:
        case "gradient":
            return (slope - slope.min()) / (slope.max() - slope.min())
        case "striped":
            return ((slope / period) % 1 < 0.5).astype(np.float32)
        case "dotted":
            distance = (x / period % 1 - 0.5) ** 2 + (y / period % 1 - 0.5) ** 2
            return (distance < _DOT).astype(np.float32)
        case "banded":
            return np.broadcast_to((y / period % 1 < 0.5).astype(np.float32), size)
    raise ValueError(f"kind is {kind!r}; allowed: {', '.join(PATTERNS)}")


@lru_cache(maxsize=8)
def usual_patterns(size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw each of :data:`PATTERNS` in its usual form.

    Args:
        size: height and width in pixels.

    Returns:
        (P, H, W) in [-1, 1], from the darker shade to the lighter one; read-only.
    """
    drawn = np.stack([2 * pattern(kind, size, usual_angle(kind), usual_period(kind)) - 1 for kind in PATTERNS])
    drawn.flags.writeable = False
    return drawn
