"""The words and objects on a poster and their positions: all of it is decided before a pixel is drawn.

Positions are fractions of the square frame. Captions are derived from the scene, so they are true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, get_args

import numpy as np

from vlad_lightning.data.scene_file import WordStyle
from vlad_lightning.data.synthetic.shades import rgb_of
from vlad_lightning.layout.colours import RGB
from vlad_lightning.layout.prompt_parser import region_of

World = Literal["plain", "rich", "literal", "wordless"]
"""What posters show: ``rich`` has things beside the shapes, more fonts and more backgrounds; ``literal`` is ``rich``
without anything that a poster's caption leaves out; ``wordless`` is ``plain`` without words."""

WORLDS: tuple[World, ...] = get_args(World)

OF_SHAPES: tuple[World, ...] = ("plain", "wordless")
"""The worlds whose only objects are shapes."""

TEXTURES = ("striped", "dotted", "noisy")

KINDS = ("solid", "gradient", *TEXTURES, "banded", "framed", "landscape")
"""The kinds of backgrounds; the last three only in the rich world."""


@dataclass(frozen=True)
class Background:
    """The background that fills the frame.

    Attributes:
        colour: a name of the palette; with a ``shade``, the one that the shade belongs to.
        kind: ``"solid"``, ``"gradient"`` or one of :data:`TEXTURES`; in the rich world also ``"banded"`` (horizontal
            bands), ``"framed"`` and ``"landscape"`` (a sky over the ground; ``colour`` is the sky's).
        shades: two shades of the colour; the pixels are between them. The nearest palette colour of both is ``colour``,
            except with a ``shade``. The shades of the sky and of the ground in a landscape. Letters are readable on
            both.
        angle: direction of a gradient or of stripes, in radians; where the hills of a landscape begin.
        period: distance between stripes, dots, bands or hills, a fraction of the frame.
        noise: seed of the pattern ``"noisy"``.
        accent: a name of the palette: the colour of a frame or of the ground; None where there is neither.
        horizon: height of the ground's edge in a landscape, a fraction of the frame from above.
        shade: a name of CSS's for the shade of its colour, as captions tell it; None is the palette's own.
    """

    colour: str
    kind: str
    shades: tuple[RGB, RGB]
    angle: float = 0.0
    period: float = 0.125
    noise: int = 0
    accent: str | None = None
    horizon: float = 1.0
    shade: str | None = None

    @property
    def told_colour(self) -> str:
        """The colour as captions tell it."""
        return self.shade or self.colour


@dataclass(frozen=True)
class PlacedWord:
    """A word on the poster.

    Attributes:
        text: the word as drawn, with its case.
        font: file name of a font that matplotlib ships.
        pixels: font size in pixels of the poster.
        colour: a name of the palette.
        x: centre of its ink.
        y: centre of its ink.
        width: width of its ink before rotation.
        height: height of its ink before rotation.
        angle: radians, clockwise on screen.
        group: index of the poster's phrase that it belongs to, from 0.
        style: family, case and size of its letters, as captions of the rich world tell them; None in the plain world.
    """

    text: str
    font: str
    pixels: int
    colour: str
    x: float
    y: float
    width: float
    height: float
    angle: float
    group: int = 0
    style: WordStyle | None = None

    @property
    def region(self) -> str:
        """The ninth of the frame its centre lies in."""
        return region_of(self.x, self.y)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the upright box around the rotated word."""
        return rotated_extent(self.width, self.height, self.angle)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the upright box around the rotated word."""
        return box_around(self.x, self.y, *self.extent)

    def quad(self) -> np.ndarray:
        """Return the corners of its ink, (4, 2) float64, clockwise on screen, from where the word starts."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across, down = (cos * self.width / 2, sin * self.width / 2), (-sin * self.height / 2, cos * self.height / 2)
        offsets = [(-a - d, a - d, a + d, d - a) for a, d in zip(across, down, strict=True)]  # across, down
        return np.array([(self.x + dx, self.y + dy) for dx, dy in zip(*offsets, strict=True)])


@dataclass(frozen=True)
class PlacedObject:
    """A coloured shape or thing on the poster.

    Attributes:
        shape: one of :data:`~vlad_lightning.layout.nouns.NOUNS`.
        colour: a name of the palette; with a ``shade``, the one that the shade belongs to.
        x: centre.
        y: centre.
        radius: half of the longer side of its upright box.
        sides: width and height of its upright box, as shares of the longer one.
        turn: degrees by which it is turned, clockwise.
        shade: a name of CSS's for the shade of its colour, as captions tell it; None is the palette's own.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    sides: tuple[float, float] = (1.0, 1.0)
    turn: int = 0
    shade: str | None = None

    @property
    def told_colour(self) -> str:
        """The colour as captions tell it."""
        return self.shade or self.colour

    @property
    def rgb(self) -> RGB:
        """The colour that it is drawn in."""
        return rgb_of(self.told_colour)

    @property
    def region(self) -> str:
        """The ninth of the frame its centre lies in."""
        return region_of(self.x, self.y)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return box_around(self.x, self.y, 2 * self.radius * self.sides[0], 2 * self.radius * self.sides[1])


@dataclass(frozen=True)
class Phrase:
    """Words that belong together, in one line or in the lines of one block.

    Attributes:
        words: at least one, in reading order, of one colour and font.
    """

    words: tuple[PlacedWord, ...]

    @property
    def text(self) -> str:
        """The phrase's text, as in a caption."""
        return " ".join(word.text for word in self.words)

    @property
    def colour(self) -> str:
        """Colour of its letters."""
        return self.words[0].colour

    @property
    def style(self) -> WordStyle | None:
        """Style of its letters."""
        return self.words[0].style

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the upright box around all its words."""
        left, top, right, bottom = zip(*(word.box for word in self.words), strict=True)
        return min(left), min(top), max(right), max(bottom)

    @property
    def region(self) -> str:
        """The ninth of the frame the centre of its box lies in."""
        left, top, right, bottom = self.box
        return region_of((left + right) / 2, (top + bottom) / 2)


@dataclass(frozen=True)
class Scene:
    """A poster: objects are on the background, words on top.

    Attributes:
        background: the background, which fills the frame.
        objects: the objects, which do not touch each other.
        words: the words, phrase by phrase.
    """

    background: Background
    objects: tuple[PlacedObject, ...]
    words: tuple[PlacedWord, ...]

    @cached_property
    def phrases(self) -> tuple[Phrase, ...]:
        """The phrases: the words by their group."""
        return tuple(Phrase(tuple(words)) for _, words in groupby(self.words, key=lambda word: word.group))

    @property
    def rows(self) -> tuple[tuple[PlacedObject, ...], ...]:
        """The objects, those that are alike in noun and colour together: a caption counts them."""
        return tuple(tuple(alike) for _, alike in groupby(self.objects, key=lambda thing: (thing.shape, thing.colour)))


def rotated_extent(width: float, height: float, angle: float) -> tuple[float, float]:
    """Return width and height of the upright box around a rotated box."""
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    return width * cos + height * sin, width * sin + height * cos


def box_around(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a box given by its centre and size."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
