"""Words as ink: fonts, measures and masks, drawn finer than the poster so that small letters stay clean."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.data.mario import CHARSEG_SIDE, character_class

FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
)


def fineness(size: int) -> int:
    """How many fine pixels one pixel of a poster is drawn with: the fine frame is about as wide as a charseg map."""
    return max(1, CHARSEG_SIDE // size)


@lru_cache(maxsize=512)
def load_font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """One of :data:`FONTS` at a size in pixels."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


def ink_size(text: str, font: str, pixels: int) -> tuple[int, int]:
    """Width and height in pixels of a word's ink."""
    left, top, right, bottom = load_font(font, pixels).getbbox(text)
    return math.ceil(right) - math.floor(left), math.ceil(bottom) - math.floor(top)


@lru_cache(maxsize=16)  # the image and the charseg map ask for the same words
def draw_ink(text: str, font: str, pixels: int) -> tuple[Image.Image, Image.Image]:
    """A word's ink, upright, in the box of :func:`ink_size`.

    Returns:
        the ink as ``L``, and the charseg class of each pixel as ``L``, 0 where there is no ink.
    """
    face = load_font(font, pixels)
    left, top = face.getbbox(text)[:2]
    ink = Image.new("L", ink_size(text, font, pixels))
    ImageDraw.Draw(ink).text((-math.floor(left), -math.floor(top)), text, fill=255, font=face)
    ends = [face.getlength(text[: i + 1]) - left for i in range(len(text))]
    # Upright faces: each character's ink lies in its own columns.
    column = np.searchsorted(ends, np.arange(ink.width) + 0.5).clip(max=len(text) - 1)
    classes = np.array([character_class(c) for c in text], dtype=np.uint8)[column]  # (W,)
    return ink, Image.fromarray(np.where(np.asarray(ink) >= 128, classes, 0).astype(np.uint8))
