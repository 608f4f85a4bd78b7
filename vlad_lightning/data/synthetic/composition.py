"""Composition of scenes: phrases first, each in its own region, then objects in the remaining space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from types import MappingProxyType

import numpy as np

from vlad_lightning.data.synthetic.backgrounds import draw_plain, draw_rich, in_usual_form
from vlad_lightning.data.synthetic.blocks import MARGIN, WORLD_FONTS, Block, fitted_block
from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.lettering import style_of
from vlad_lightning.data.synthetic.odds import weighted
from vlad_lightning.data.synthetic.placing import FAR, place_shapes, place_things
from vlad_lightning.data.synthetic.scene import OF_SHAPES, Background, Phrase, PlacedObject, Scene, World, box_around
from vlad_lightning.data.synthetic.vocabulary import draw_word, in_one_case
from vlad_lightning.layout.colours import MIN_CONTRAST, PALETTE, RGB, SEEN, contrast
from vlad_lightning.layout.nouns import FURTHER_THINGS, THINGS
from vlad_lightning.layout.prompt_parser import region_of

MIN_PIXELS = 12
"""Smallest font size in pixels that an OCR engine still reads well."""

MAX_WORDS = 6
"""The largest number of words on a poster."""

_PHRASE_ODDS = (0.55, 0.3, 0.15)  # of one to three
_WORD_ODDS = (0.46, 0.26, 0.17, 0.11)  # of one to four in a phrase; there is less often room for long phrases
_NO_WORDS, _NO_OBJECTS = 0.08, 0.08  # shares of the posters without words and without objects
_HEIGHT_LIMITS = (0.42, 0.34, 0.27)  # font size as a fraction of the frame, for one to three phrases
_PHRASE_GAP = (0.1, 0.04)  # wide: an OCR engine joins neighbours on a line
_POSITIONS = 6  # positions of a block that are tried at once in each region
_BEST = 0.5  # share of the posters whose first phrase has the colour with the best contrast
_SOUGHT = 0.7  # share of the literal world's posters whose background is drawn for the letters, not the other way round
_TRIES = 4  # compositions before one word is removed for lack of room


@dataclass(frozen=True)
class _Placed:
    """A block with its centre."""

    block: Block
    x: float
    y: float

    @property
    def region(self) -> str:
        return region_of(self.x, self.y)

    @property
    def box(self) -> tuple[float, float, float, float]:
        return box_around(self.x, self.y, *self.block.extent)


def compose(rng: np.random.Generator, size: int, held_out: bool, world: World = "plain") -> Scene:
    """Draw a random scene for a poster of ``size`` pixels a side; some have no words, and some no objects.

    Letters have a contrast of at least :data:`~vlad_lightning.layout.colours.MIN_CONTRAST` to both shades of the
    background; no object is under them.

    Args:
        rng: picks everything.
        size: side of the poster in pixels.
        held_out: draw only held-out words, and in the rich world seek held-out combinations; otherwise none of either.
        world: what there is to be seen.
    """
    with_words, with_objects = rng.random() >= _NO_WORDS, rng.random() >= _NO_OBJECTS
    counts = _word_counts(rng) if with_words and world != "wordless" else []
    sought = _sought_colour(rng) if counts and world == "literal" and rng.random() < _SOUGHT else None
    for attempt in count():
        background = _background(rng, world, sought)
        if not text_colours(*background.shades):  # the two shades of a gradient may leave none
            continue
        if attempt % _TRIES == _TRIES - 1:
            counts = _fewer(counts)
        phrases = _phrases(rng, size, background, counts, held_out, world, sought)
        if len(phrases) < len(counts):
            continue
        objects: tuple[PlacedObject, ...] = ()
        if with_objects:
            most = max(1, MAX_WORDS - sum(len(phrase.words) for phrase in phrases))
            objects = (
                place_shapes(rng, background, phrases, most)
                if world in OF_SHAPES
                else place_things(rng, size, background, phrases, most, held_out, *_things(world))
            )
        if bool(objects) == with_objects:
            return Scene(background, objects, tuple(word for phrase in phrases for word in phrase.words))
    raise AssertionError("unreachable")


def _things(world: World) -> tuple[float, Sequence[str]]:
    """Return how far a world's objects are from the background in colour, and which things there are."""
    return (SEEN, (*THINGS, *FURTHER_THINGS)) if world == "literal" else (FAR, THINGS)


@lru_cache(maxsize=64)
def text_colours(*shades: RGB) -> Mapping[str, float]:
    """Return the palette colours that are readable on all ``shades``, each with its lowest contrast ratio to them."""
    lowest = {name: min(contrast(rgb, shade) for shade in shades) for name, rgb in PALETTE.items()}
    return MappingProxyType({name: ratio for name, ratio in lowest.items() if ratio >= MIN_CONTRAST})


def _sought_colour(rng: np.random.Generator) -> str:
    """Draw one of the colours that letters can have: a background drawn first leaves to most of them black or white."""
    readable = [name for name in PALETTE if any(name in text_colours(ground) for ground in PALETTE.values())]
    return readable[rng.integers(len(readable))]


def _background(rng: np.random.Generator, world: World, sought: str | None) -> Background:
    """Draw a background, one on which letters of the colour ``sought`` are readable."""
    while True:
        background = draw_plain(rng) if world in OF_SHAPES else draw_rich(rng)
        if world == "literal":
            background = in_usual_form(background)
        if sought is None or sought in text_colours(*background.shades):
            return background


def _phrases(
    rng: np.random.Generator,
    size: int,
    background: Background,
    counts: Sequence[int],
    held_out: bool,
    world: World,
    sought: str | None,
) -> tuple[Phrase, ...]:
    """Place phrases with ``counts`` words that do not touch; fewer or none if there is no room.

    All words are different, and no two phrases are in one region. Long phrases are placed first; their order on the
    poster is random.
    """
    if not counts:
        return ()
    colours = _phrase_colours(rng, background, len(counts), 0.0 if world == "literal" else _BEST, sought)
    placed: list[_Placed] = []
    known: set[str] = set()
    for _ in range(5 * len(counts)):
        texts = [draw_word(rng, held_out, GRAMMAR_WORDS[world]) for _ in range(counts[len(placed)])]
        if world not in OF_SHAPES:
            texts = in_one_case(texts, rng)
        new = {text.casefold() for text in texts} - known
        if len(new) < len(texts):
            continue
        height = _HEIGHT_LIMITS[len(counts) - 1]
        block = fitted_block(rng, size, texts, colours[len(placed)], height, MIN_PIXELS, WORLD_FONTS[world])
        centre = _free_position(rng, block, placed) if block else None
        if block and centre:
            placed.append(_Placed(block, *centre))
            known |= new
        if len(placed) == len(counts):
            break
    order = rng.permutation(len(placed))
    if len(placed) < len(counts):
        return ()
    kept: dict[str, Phrase] = {}  # one per region: the centre of a phrase's ink may turn out to be in another's
    for i in order:
        phrase = placed[i].block.at(placed[i].x, placed[i].y, size)
        kept.setdefault(phrase.region, phrase)
    return tuple(_finished(phrase, group, size, world) for group, phrase in enumerate(kept.values()))


def _finished(phrase: Phrase, group: int, size: int, world: World) -> Phrase:
    """Number a phrase, and in the rich world say how its letters look."""
    first = phrase.words[0]
    texts = [word.text for word in phrase.words]
    style = style_of(texts, first.font, first.pixels / size) if world not in OF_SHAPES else None
    return Phrase(tuple(replace(word, group=group, style=style) for word in phrase.words))


def _word_counts(rng: np.random.Generator) -> list[int]:
    """Draw the number of words of each phrase, the longest phrase first; at most :data:`MAX_WORDS` in total."""
    counts = sorted((1 + weighted(rng, _WORD_ODDS) for _ in range(1 + weighted(rng, _PHRASE_ODDS))), reverse=True)
    while sum(counts) > MAX_WORDS:
        counts[0] -= 1
        counts.sort(reverse=True)
    return counts


def _fewer(counts: Sequence[int]) -> list[int]:
    """Return the counts with one word less in the longest phrase, or one single-word phrase less; one word is kept."""
    shorter = [counts[0] - 1, *counts[1:]] if counts and counts[0] > 1 else [*counts[1:]]
    return sorted(shorter, reverse=True) or list(counts)


def best_colour(background: Background) -> str:
    """Return the palette colour that is read best on a background; on white and light ones that is black."""
    readable = text_colours(*background.shades)
    return max(readable, key=lambda name: readable[name])


def _phrase_colours(
    rng: np.random.Generator, background: Background, count: int, best: float, first: str | None
) -> list[str]:
    """Pick colours for the phrases, mostly one for all: from ``first``, or for a share ``best`` the best contrast."""
    readable = text_colours(*background.shades)  # never the background's own colour: its contrast is too low
    names = list(readable)
    picks = [names[i] for i in rng.integers(len(names), size=count)]
    if rng.random() < best:
        picks[0] = best_colour(background)
    picks[0] = first or picks[0]
    return picks if rng.random() < 0.3 else picks[:1] * count


def _free_position(rng: np.random.Generator, block: Block, placed: Sequence[_Placed]) -> tuple[float, float] | None:
    """Find a centre for the block well inside a region that has no block yet; None if there is no room."""
    width, height = block.extent
    taken = {other.region for other in placed}
    cells = [
        (*column, *row)
        for column in _ranges(width)
        for row in _ranges(height)
        if region_of(sum(column) / 2, sum(row) / 2) not in taken
    ]
    if not cells:
        return None
    low_x, high_x, low_y, high_y = np.array(cells)[rng.permutation(len(cells)), :, None].swapaxes(0, 1)
    x = (low_x + (high_x - low_x) * rng.random((len(cells), _POSITIONS))).ravel()  # cell by cell
    y = (low_y + (high_y - low_y) * rng.random((len(cells), _POSITIONS))).ravel()
    free = np.ones(len(x), dtype=bool)
    for other in placed:
        left, top, right, bottom = _widened(other.box, _PHRASE_GAP)
        beside = (x + width / 2 <= left) | (x - width / 2 >= right)
        free &= beside | (y + height / 2 <= top) | (y - height / 2 >= bottom)
    i = int(free.argmax())
    return (float(x[i]), float(y[i])) if free[i] else None


def _ranges(extent: float) -> list[tuple[float, float]]:
    """Return the allowed ranges of a centre along one axis, for a given extent: one for each third that can hold it."""
    inset = 0.012  # keeps a centre in its third when corners are rounded to whole pixels of MARIO's frame
    low, high = MARGIN + extent / 2, 1 - MARGIN - extent / 2
    ranges = [(max(low, third / 3 + inset), min(high, (third + 1) / 3 - inset)) for third in range(3)]
    return [(start, end) for start, end in ranges if start <= end]


def _widened(box: Sequence[float], gap: tuple[float, float]) -> tuple[float, float, float, float]:
    return box[0] - gap[0], box[1] - gap[1], box[2] + gap[0], box[3] + gap[1]
