"""Backgrounds: one colour in two shades, and in the rich world also bands, frames, and a sky over the ground."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vlad_lightning.data.synthetic.odds import weighted
from vlad_lightning.data.synthetic.scene import TEXTURES, Background
from vlad_lightning.layout.colours import PALETTE, RGB
from vlad_lightning.layout.patterns import CONTRAST, PATTERNS, usual_angle, usual_period

_SHADE = 0.16
_KINDS = ("solid", "gradient", "texture", "banded", "framed", "landscape")
_KIND_ODDS = (0.2, 0.18, 0.24, 0.11, 0.12, 0.15)
_BANDS = (0.25, 0.5)  # height of two bands
# The colours of the sky, and those of the ground under each of them. Some letters are readable on both.
_SKIES = {
    "blue": ("green", "brown", "black"),
    "orange": ("yellow", "white", "gray"),
    "pink": ("orange", "white", "yellow", "gray"),
    "white": ("yellow", "gray", "orange", "green"),
    "yellow": ("orange", "white", "pink"),
    "purple": ("black", "brown", "green"),
    "black": ("gray", "blue", "brown", "green"),
}
_HORIZON = (0.62, 0.78)
_PERIODS = (0.1, 0.2)  # of stripes and dots, as fractions of the frame


def draw_plain(rng: np.random.Generator) -> Background:
    """Draw a background of one colour: solid, a gradient, or textured."""
    colour = list(PALETTE)[rng.integers(len(PALETTE))]
    kind = ("solid", "gradient", TEXTURES[rng.integers(len(TEXTURES))])[rng.integers(3)]
    return _of_one_colour(rng, colour, kind, _spread(kind))


def draw_rich(rng: np.random.Generator) -> Background:
    """Draw a background of the rich world: a plain one, bands, a frame, or a sky over the ground."""
    kind = _KINDS[weighted(rng, _KIND_ODDS)]
    if kind == "landscape":
        return _landscape(rng)
    if kind == "texture":
        kind = TEXTURES[rng.integers(len(TEXTURES))]
    colour = _one(rng, tuple(PALETTE))
    background = _of_one_colour(rng, colour, kind, _spread(kind), _BANDS if kind == "banded" else _PERIODS)
    if kind != "framed":
        return background
    return replace(background, accent=_one(rng, tuple(name for name in PALETTE if name != colour)))


def in_usual_form(background: Background) -> Background:
    """Give a background what no caption tells: shades around its colour, an angle, a period, a horizon.

    Stripes rise, gradients get lighter from above to below, and a colour alone is exactly the palette's. Patterns are
    those that a phrase map draws (:mod:`~vlad_lightning.layout.patterns`).
    """
    if background.kind == "landscape" and background.accent:
        shades = (PALETTE[background.colour], PALETTE[background.accent])
        return replace(background, shades=shades, angle=0.0, period=1.0, horizon=sum(_HORIZON) / 2)
    half = CONTRAST if background.kind in PATTERNS else _spread(background.kind) / 2
    return replace(
        background,
        shades=(shade(background.colour, -half), shade(background.colour, half)),
        angle=usual_angle(background.kind),
        period=usual_period(background.kind),
    )


def _spread(kind: str) -> float:
    """Return how far the two shades of a background are apart."""
    return {"solid": 0.0, "framed": 0.0, "gradient": 2 * _SHADE, "banded": 1.5 * _SHADE}.get(kind, _SHADE)


def _of_one_colour(
    rng: np.random.Generator, colour: str, kind: str, spread: float, periods: tuple[float, float] = _PERIODS
) -> Background:
    """Draw shades of a colour that are ``spread`` apart, and a pattern with a period in ``periods``."""
    darkest = rng.uniform(-_SHADE, _SHADE - spread)
    dark, light = shade(colour, darkest), shade(colour, darkest + spread)
    return Background(
        colour,
        kind,
        (dark, light) if rng.random() < 0.5 else (light, dark),
        angle=float(rng.integers(8) * math.pi / 4),
        period=float(rng.uniform(*periods)),
        noise=int(rng.integers(2**31)),
    )


def shade(colour: str, amount: float) -> RGB:
    """Return a darker (``amount`` < 0, towards black) or lighter (> 0, towards white) shade of a palette colour."""
    target = 255 if amount > 0 else 0
    red, green, blue = (round(c + abs(amount) * (target - c)) for c in PALETTE[colour])
    return red, green, blue


def _landscape(rng: np.random.Generator) -> Background:
    sky = _one(rng, tuple(_SKIES))
    ground = _one(rng, _SKIES[sky])
    shades = (shade(sky, rng.uniform(-0.08, 0.08)), shade(ground, rng.uniform(-0.08, 0.08)))
    return Background(
        sky,
        "landscape",
        shades,
        angle=float(rng.uniform(0, 2 * math.pi)),
        period=float(rng.uniform(0.6, 1.5)),
        accent=ground,
        horizon=float(rng.uniform(*_HORIZON)),
    )


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[rng.integers(len(names))]
