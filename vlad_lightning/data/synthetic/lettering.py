"""Words as ink: fonts, measures and masks, drawn at a finer resolution than the poster so that letters stay clean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.data.mario import CHARSEG_SIDE, character_class
from vlad_lightning.data.scene_file import WordStyle
from vlad_lightning.layout.fonts import HAND, packaged_font

FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
)

FAMILIES = {
    "sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "cmss10.ttf"),
    "serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "STIXGeneral.ttf", "STIXGeneralBol.ttf", "cmb10.ttf"),
    "mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "cmtt10.ttf"),
    "hand": (HAND,),
}
"""The fonts of the rich world: :data:`HAND` comes with ``font-intuitive`` (OFL 1.1), the others with matplotlib."""

_BIG, _SMALL = 0.2, 0.13  # font sizes as fractions of the frame

_MEASURE = 64  # font size at which characters are measured


def fineness(size: int) -> int:
    """Return the fine pixels per side of a poster's pixel: the fine frame is about as wide as a charseg map."""
    return max(1, CHARSEG_SIDE // size)


@lru_cache(maxsize=512)
def load_font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """Load one of :data:`FONTS` or :data:`FAMILIES` at a size in pixels.

    Raises:
        FileNotFoundError: if the font's package is not installed.
    """
    return ImageFont.truetype(packaged_font(name), pixels, layout_engine=ImageFont.Layout.BASIC)


def style_of(texts: Sequence[str], font: str, height: float) -> WordStyle:
    """Return how the letters of a phrase look.

    Args:
        texts: the words as drawn.
        font: one of :data:`FAMILIES`.
        height: the font size, a fraction of the frame.
    """
    family = next(name for name, fonts in FAMILIES.items() if font in fonts)
    size = "big" if height >= _BIG else "small" if height <= _SMALL else "medium"
    return WordStyle(family, _case_of("".join(texts)), size)


def _case_of(text: str) -> str:
    if not any(c.isalpha() for c in text):
        return "none"
    return "upper" if text.isupper() else "lower" if text.islower() else "title"


def room_for(text: str, font: str, pixels: int) -> tuple[int, int]:
    """Return the width and height in pixels that a word needs at most: its ink and the space before and after it."""
    return _room(load_font(font, pixels).getbbox(text))


def _room(bounds: tuple[float, float, float, float]) -> tuple[int, int]:
    left, top, right, bottom = bounds
    return math.ceil(right) - math.floor(left), math.ceil(bottom) - math.floor(top)


def measured(text: str, font: str) -> tuple[float, float, float]:
    """Return bounds of a word's width, and of its ink's upper and lower edge below the line's top, in font sizes."""
    widths, tops, bottoms = zip(*(_character(c, font) for c in text), strict=True)
    return sum(widths), min(tops), max(bottoms)


@cache  # of a few hundred characters
def _character(character: str, font: str) -> tuple[float, float, float]:
    face = load_font(font, _MEASURE)
    _, top, _, bottom = face.getbbox(character)
    return face.getlength(character) / _MEASURE, math.floor(top) / _MEASURE, math.ceil(bottom) / _MEASURE


@dataclass(frozen=True)
class Ink:
    """A word as drawn.

    Attributes:
        image: mode ``L``, 255 where the ink is full, cropped to the ink.
        start: columns from the pen's starting position to the ink's left edge.
        top: rows from the top of the line to the ink's upper edge.
    """

    image: Image.Image
    start: int
    top: int


@lru_cache(maxsize=32)  # a word is measured, drawn into the image and into the charseg map
def draw_ink(text: str, font: str, pixels: int) -> Ink:
    """Draw a word's ink, upright."""
    face = load_font(font, pixels)
    bounds = face.getbbox(text)
    left, top = (math.floor(v) for v in bounds[:2])
    image = Image.new("L", _room(bounds))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=face)
    box = image.getbbox() or (0, 0, *image.size)
    return Ink(image.crop(box), left + box[0], top + box[1])


def draw_classes(text: str, font: str, pixels: int) -> Image.Image:
    """Draw the charseg class of each pixel of a word's ink, in mode ``L``, 0 where there is no ink."""
    face = load_font(font, pixels)
    ink = draw_ink(text, font, pixels)
    ends = [face.getlength(text[: i + 1]) - ink.start for i in range(len(text))]
    # Upright faces: each character's ink lies in its own columns.
    column = np.searchsorted(ends, np.arange(ink.image.width) + 0.5).clip(max=len(text) - 1)
    classes = np.array([character_class(c) for c in text], dtype=np.uint8)[column]  # (W,)
    return Image.fromarray(np.where(np.asarray(ink.image) >= 128, classes, np.uint8(0)))
