"""Composes scenes: words first, each in a region of its own, then objects in the space that is left."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType

import numpy as np

from vlad_lightning.data.lettering import FONTS, draw_ink, fineness, room_for
from vlad_lightning.data.scene import (
    SHAPES,
    TEXTURES,
    Background,
    PlacedObject,
    PlacedWord,
    Scene,
    box_around,
    boxes_touch,
    rotated_extent,
)
from vlad_lightning.data.vocabulary import draw_word
from vlad_lightning.models.colours import PALETTE, RGB, contrast
from vlad_lightning.models.prompts import region_of

MIN_CONTRAST = 3.5
"""Lowest contrast ratio of letters to whatever may lie under them."""

MIN_PIXELS = 12
"""Smallest font size in pixels that an OCR engine still reads well."""

_COUNT_ODDS = (0.45, 0.3, 0.15, 0.1)  # of one to four
_HEIGHT_LIMITS = (0.42, 0.34, 0.27, 0.23)  # font size as a fraction of the frame, for one to four words
_REFERENCE_PIXELS = 64  # font size at which a word is first measured
_MARGIN = 0.035
_GAP = (0.03, 0.03)  # across and down
_WORD_GAP = (0.1, 0.02)  # wide: an OCR engine joins neighbours on a line, and reads a ring beside a word as an O
_MAX_TILT = math.radians(8)
_SHADE = 0.16
_FONT_ODDS = (0.1, 0.3, 0.1, 0.25, 0.05, 0.2)  # in the order of FONTS: bold faces read best at small sizes


def compose(rng: np.random.Generator, size: int, held_out: bool) -> Scene:
    """A random scene for a poster of ``size`` pixels a side.

    Letters have a contrast of at least :data:`MIN_CONTRAST` to both shades of the background and to any object below.
    """
    while True:
        background = _background(rng)
        if not text_colours(*background.shades):  # the two shades of a gradient may leave none
            continue
        words = _words(rng, size, background, held_out)
        objects = _objects(rng, background, words)
        if words and objects:
            return Scene(background, objects, words)


def shade(colour: str, amount: float) -> RGB:
    """A darker (``amount`` < 0, towards black) or lighter (> 0, towards white) shade of a palette colour."""
    target = 255 if amount > 0 else 0
    red, green, blue = (round(c + abs(amount) * (target - c)) for c in PALETTE[colour])
    return red, green, blue


@lru_cache(maxsize=64)
def text_colours(*shades: RGB) -> Mapping[str, float]:
    """The palette colours that can be read on all of some colours, each with its lowest contrast ratio to them."""
    lowest = {name: min(contrast(rgb, shade) for shade in shades) for name, rgb in PALETTE.items()}
    return MappingProxyType({name: ratio for name, ratio in lowest.items() if ratio >= MIN_CONTRAST})


def _background(rng: np.random.Generator) -> Background:
    colour = list(PALETTE)[rng.integers(len(PALETTE))]
    kind = ("solid", "gradient", TEXTURES[rng.integers(len(TEXTURES))])[rng.integers(3)]
    spread = {"solid": 0.0, "gradient": 2 * _SHADE}.get(kind, _SHADE)
    darkest = rng.uniform(-_SHADE, _SHADE - spread)
    dark, light = shade(colour, darkest), shade(colour, darkest + spread)
    return Background(
        colour,
        kind,
        (dark, light) if rng.random() < 0.5 else (light, dark),
        angle=float(rng.integers(8) * math.pi / 4),
        period=float(rng.uniform(0.1, 0.2)),
        noise=int(rng.integers(2**31)),
    )


def _words(rng: np.random.Generator, size: int, background: Background, held_out: bool) -> tuple[PlacedWord, ...]:
    """One to four words that do not touch, all different, no two in one region; empty if they found no room."""
    count = 1 + _weighted(rng, _COUNT_ODDS)
    colours = _word_colours(rng, background, count)
    placed: list[PlacedWord] = []
    for _ in range(6 * count):
        word = _fitted_word(rng, size, colours[len(placed)], _HEIGHT_LIMITS[count - 1], held_out)
        if word and word.text.casefold() not in {other.text.casefold() for other in placed}:
            word = _with_room(rng, word, placed)
            placed += [_cut_to_ink(word, size)] if word else []
        if len(placed) == count:
            break
    return tuple(placed)


def _word_colours(rng: np.random.Generator, background: Background, count: int) -> list[str]:
    """Mostly one colour for all words, and half of the time the best one."""
    readable = text_colours(*background.shades)  # never the background's own colour: its contrast is too low
    names = list(readable)
    picks = [names[i] for i in rng.integers(len(names), size=count)]
    if rng.random() < 0.5:
        picks[0] = max(readable, key=lambda name: readable[name])
    return picks if rng.random() < 0.3 else picks[:1] * count


def _fitted_word(
    rng: np.random.Generator, size: int, colour: str, height_limit: float, held_out: bool
) -> PlacedWord | None:
    """A word at the frame's centre in a face and size that fit, wide ones favoured; None if it never fits.

    Its width and height are a little more than its ink's.
    """
    text = draw_word(rng, held_out)
    room = (1 - 2 * _MARGIN) * size
    smallest = max(MIN_PIXELS, math.ceil(0.09 * size))
    angle = float(rng.uniform(-_MAX_TILT, _MAX_TILT)) if rng.random() < 0.5 else 0.0
    for _ in range(3):
        font = FONTS[_weighted(rng, _FONT_ODDS)]
        width, height = (v / _REFERENCE_PIXELS for v in room_for(text, font, _REFERENCE_PIXELS))  # of the font size
        largest = math.floor(min(room / max(rotated_extent(width, height, angle)), height_limit * size))
        if largest >= smallest:
            pixels = round(smallest + (largest - smallest) * math.sqrt(rng.random()))
            width, height = width * pixels / size, height * pixels / size
            return PlacedWord(text, font, pixels, colour, 0.5, 0.5, width, height, angle)
    return None


def _with_room(rng: np.random.Generator, word: PlacedWord, placed: Sequence[PlacedWord]) -> PlacedWord | None:
    """The word moved to a free region, well inside it; None if there is no room."""
    width, height = word.extent
    taken = {other.region for other in placed}
    columns, rows = _ranges(width), _ranges(height)
    cells = [(column, row) for column in columns for row in rows]
    for i in rng.permutation(len(cells)):
        x, y = (float(rng.uniform(*limits)) for limits in cells[i])
        box = box_around(x, y, width, height)
        if region_of(x, y) not in taken and not any(boxes_touch(box, other.box, _WORD_GAP) for other in placed):
            return replace(word, x=x, y=y)
    return None


def _cut_to_ink(word: PlacedWord, size: int) -> PlacedWord:
    """The word with its ink's true width and height; its centre is the ink's."""
    width, height = draw_ink(word.text, word.font, word.pixels * fineness(size)).image.size
    return replace(word, width=width / (size * fineness(size)), height=height / (size * fineness(size)))


def _ranges(extent: float) -> list[tuple[float, float]]:
    """Where the centre of something of this extent may lie along one axis: a range for each third that can hold it."""
    inset = 0.012  # keeps a centre in its third when corners are rounded to whole pixels of MARIO's frame
    low, high = _MARGIN + extent / 2, 1 - _MARGIN - extent / 2
    ranges = [(max(low, third / 3 + inset), min(high, (third + 1) / 3 - inset)) for third in range(3)]
    return [(start, end) for start, end in ranges if start <= end]


def _objects(rng: np.random.Generator, background: Background, words: Sequence[PlacedWord]) -> tuple[PlacedObject, ...]:
    """One to four objects that do not touch; if no place is free, one where the words above stand out from it."""
    count = min(1 + _weighted(rng, _COUNT_ODDS), 6 - len(words))
    names = [name for name in PALETTE if name != background.colour]
    placed: list[PlacedObject] = []
    for attempt in range(25 * count):
        candidate = _object(rng, names[rng.integers(len(names))], tight=attempt > 10 * count)
        if _fits(candidate, placed, words, may_overlap=not placed and attempt > 20 * count):
            placed.append(candidate)
        if len(placed) == count:
            break
    return tuple(placed)


def _object(rng: np.random.Generator, colour: str, tight: bool) -> PlacedObject:
    radius = float(rng.uniform(0.075, 0.1 if tight else 0.18))
    x, y = (float(v) for v in rng.uniform(radius + _MARGIN, 1 - radius - _MARGIN, size=2))
    return PlacedObject(SHAPES[rng.integers(len(SHAPES))], colour, x, y, radius)


def _fits(
    candidate: PlacedObject, placed: Sequence[PlacedObject], words: Sequence[PlacedWord], may_overlap: bool
) -> bool:
    if any(candidate.colour == other.colour or boxes_touch(candidate.box, other.box, _GAP) for other in placed):
        return False
    over = [word for word in words if boxes_touch(candidate.box, word.box, _WORD_GAP)]
    if not over:
        return True
    return may_overlap and all(word.colour in text_colours(PALETTE[candidate.colour]) for word in over)


def _weighted(rng: np.random.Generator, odds: Sequence[float]) -> int:
    """An index, drawn by odds that sum to one; much faster than ``rng.choice``."""
    return min(bisect(list(accumulate(odds)), rng.random()), len(odds) - 1)
