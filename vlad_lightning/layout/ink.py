"""The extent of a text's ink in a font, without drawing it."""

from __future__ import annotations

from typing import NamedTuple

from vlad_lightning.layout.fonts import can_shape, load_font, needs_shaping

MEASURE = 64
"""Font size in pixels at which texts are measured."""


class Ink(NamedTuple):
    """The extent of ink at the size :data:`MEASURE`, from the baseline's left end: pixels, y down."""

    left: float
    top: float
    right: float
    bottom: float


def ink_of(text: str, font: str | None) -> Ink:
    """Measure a text of one line; a text without ink is taken to be as high and wide as the font's size.

    Args:
        text: the text.
        font: a font file; None is the default one.
    """
    face = load_font(font, MEASURE, needs_shaping(text) and can_shape())
    left, top, right, bottom = face.getbbox(text, anchor="ls")
    return Ink(left, top, right, bottom) if left < right and top < bottom else Ink(0, -MEASURE, MEASURE, 0)
