"""A phrase as a block of lines: letters of one size, lines aligned left, right or centred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.data.synthetic.lettering import FAMILIES, FONTS, HAND, draw_ink, fineness, measured
from vlad_lightning.data.synthetic.scene import Phrase, PlacedWord, World, rotated_extent

MARGIN = 0.035
"""Smallest distance of words and objects from the frame's sides, a fraction of the frame."""

_MAX_TILT = math.radians(8)
_FONT_ODDS = (0.1, 0.3, 0.1, 0.25, 0.05, 0.2)  # in the order of FONTS: bold faces read best at small sizes
_FAMILY_ODDS = {
    "sans": (0.08, 0.2, 0.07),
    "serif": (0.05, 0.1, 0.05, 0.05, 0.05),
    "mono": (0.04, 0.09, 0.04),
    "hand": (0.18,),
}
# Thin or low letters: the smallest size at which they are read well, in times that of the others.
_LEAST = {"cmss10.ttf": 1.25, "STIXGeneral.ttf": 1.3, "STIXGeneralBol.ttf": 1.15, "cmb10.ttf": 1.15, "cmtt10.ttf": 1.25}
_LEAST |= {HAND: 1.3}
_ALIGNS = (0.0, 0.5, 1.0)  # the share of a line's free space that is before it
_SPACES = (0.42, 0.6)  # between the inks of two words, in font sizes
_LEADINGS = (0.2, 0.4)  # between the inks of the two closest neighbouring lines, in font sizes
_BLOCK_LIMIT = 0.55  # height of a block, a fraction of the frame, unless its letters get too small


@dataclass(frozen=True)
class Fonts:
    """Fonts to choose from.

    Attributes:
        names: file names.
        edges: for each font, the sum of the odds of the fonts up to it.
    """

    names: tuple[str, ...]
    edges: tuple[float, ...]

    def pick(self, rng: np.random.Generator) -> str:
        """Pick a font by its odds."""
        return self.names[min(int(np.searchsorted(self.edges, rng.random())), len(self.names) - 1)]


def _fonts(names: Sequence[str], odds: Sequence[float]) -> Fonts:
    return Fonts(tuple(names), tuple(np.cumsum(odds).tolist()))


_RICH_FONTS = _fonts(
    [font for fonts in FAMILIES.values() for font in fonts],
    [share for name in FAMILIES for share in _FAMILY_ODDS[name]],
)

_PLAIN_FONTS = _fonts(FONTS, _FONT_ODDS)

WORLD_FONTS: dict[World, Fonts] = {
    "plain": _PLAIN_FONTS,
    "rich": _RICH_FONTS,
    "literal": _RICH_FONTS,
    "wordless": _PLAIN_FONTS,
}
"""The fonts of each world."""

Lines = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Block:
    """A phrase with its font, size and lines, but no position yet.

    Attributes:
        lines: its words, line by line.
        font: file name of the font.
        pixels: font size in pixels of the poster.
        colour: a name of the palette.
        width: width before rotation, a little more than its ink's.
        height: height before rotation, a little more than its ink's.
        angle: radians, clockwise on screen; 0 with more than one line.
        align: the share of a line's free space that is before it.
        space: distance between two words of a line, in font sizes.
        pitch: distance from line to line, in font sizes.
    """

    lines: Lines
    font: str
    pixels: int
    colour: str
    width: float
    height: float
    angle: float
    align: float
    space: float
    pitch: float

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the upright box around the rotated block."""
        return rotated_extent(self.width, self.height, self.angle)

    def at(self, x: float, y: float, size: int) -> Phrase:
        """Place the phrase with its ink's centre at a point of a poster; its words' boxes are those of their ink.

        Args:
            x: the point, a fraction of the width.
            y: the point, a fraction of the height.
            size: side of the poster in pixels.
        """
        fine = fineness(size)
        frame, em = size * fine, self.pixels * fine
        boxes = self._ink_boxes(em)  # (N, 4) in fine pixels
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        centres = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (low + high) / 2) / frame
        sizes = (boxes[:, 2:] - boxes[:, :2]) / frame
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        texts = [text for line in self.lines for text in line]
        return Phrase(
            tuple(
                PlacedWord(
                    text,
                    self.font,
                    self.pixels,
                    self.colour,
                    x + cos * dx - sin * dy,
                    y + sin * dx + cos * dy,
                    width,
                    height,
                    self.angle,
                )
                for text, (dx, dy), (width, height) in zip(texts, centres.tolist(), sizes.tolist(), strict=True)
            )
        )

    def _ink_boxes(self, em: int) -> np.ndarray:
        """Return left, top, right, bottom of each word's ink, (N, 4), relative to an arbitrary origin."""
        inks = [[draw_ink(text, self.font, em) for text in line] for line in self.lines]
        gap = self.space * em
        widths = [sum(ink.image.width for ink in line) + gap * (len(line) - 1) for line in inks]
        boxes = []
        for row, (line, width) in enumerate(zip(inks, widths, strict=True)):
            left = self.align * (max(widths) - width)
            for ink in line:
                top = ink.top + row * self.pitch * em
                boxes.append((left, top, left + ink.image.width, top + ink.image.height))
                left += ink.image.width + gap
        return np.array(boxes)


def fitted_block(
    rng: np.random.Generator,
    size: int,
    texts: Sequence[str],
    colour: str,
    height_limit: float,
    min_pixels: int,
    fonts: Fonts = WORLD_FONTS["plain"],
) -> Block | None:
    """Choose a font, lines and a size with which a phrase fits, with larger sizes more likely; None if it never fits.

    Args:
        rng: picks font, size, lines and tilt.
        size: side of the poster, in pixels.
        texts: the words.
        colour: a name of the palette.
        height_limit: largest font size, a fraction of the frame.
        min_pixels: smallest font size, in pixels; more for fonts with thin letters.
        fonts: the fonts to choose from.
    """
    room = (1 - 2 * MARGIN) * size
    angle = float(rng.uniform(-_MAX_TILT, _MAX_TILT)) if rng.random() < 0.5 else 0.0
    space, leading = float(rng.uniform(*_SPACES)), float(rng.uniform(*_LEADINGS))
    align = _ALIGNS[rng.integers(3)]
    for _ in range(3):
        font = fonts.pick(rng)
        smallest = math.ceil(_LEAST.get(font, 1.0) * max(min_pixels, math.ceil(0.09 * size)))
        lines = _broken(rng, texts)
        turn = angle if len(lines) == 1 else 0.0
        width, height, pitch = _measures(lines, font, space, leading)
        fitting = math.floor(room / max(rotated_extent(width, height, turn)))
        largest = min(fitting, max(smallest, math.floor(size * min(height_limit, _BLOCK_LIMIT / height))))
        if largest >= smallest:
            pixels = round(smallest + (largest - smallest) * math.sqrt(rng.random()))
            extent = width * pixels / size, height * pixels / size
            return Block(lines, font, pixels, colour, *extent, turn, align, space, pitch)
    return None


def _broken(rng: np.random.Generator, texts: Sequence[str]) -> Lines:
    """Break words into lines of one or two words."""
    lines = []
    left = list(texts)
    while left:
        count = 1 + int(rng.random() < 0.5)
        lines.append(tuple(left[:count]))
        left = left[count:]
    return tuple(lines)


def _measures(lines: Lines, font: str, space: float, leading: float) -> tuple[float, float, float]:
    """Return width and height of the whole block, and the distance from line to line, in font sizes."""
    inks = [[measured(text, font) for text in line] for line in lines]
    width = max(sum(ink[0] for ink in line) + space * (len(line) - 1) for line in inks)
    tops = [min(ink[1] for ink in line) for line in inks]
    bottoms = [max(ink[2] for ink in line) for line in inks]
    pitch = max((bottom - top for bottom, top in zip(bottoms, tops[1:], strict=False)), default=0.0) + leading
    upper = min(top + row * pitch for row, top in enumerate(tops))
    lower = max(bottom + row * pitch for row, bottom in enumerate(bottoms))
    return width, lower - upper, pitch
