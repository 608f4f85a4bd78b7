"""Placing of objects in the space that words leave: coloured shapes, and in the rich world also things and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlad_lightning.data.synthetic.blocks import MARGIN
from vlad_lightning.data.synthetic.combinations import shows_held_out
from vlad_lightning.data.synthetic.icons import TURNS, icon_sides
from vlad_lightning.data.synthetic.odds import weighted
from vlad_lightning.data.synthetic.scene import Background, Phrase, PlacedObject
from vlad_lightning.layout.colours import PALETTE, is_far
from vlad_lightning.layout.nouns import SHAPES, THINGS

MOST_OBJECTS = 4

FAR = 110.0
"""The least distance in sRGB of an object's colour to the background in the rich world. In the literal one it is
:data:`~vlad_lightning.layout.colours.SEEN`: posters show all that people ask for, such as pink on white or purple on
blue."""

_ODDS = (0.45, 0.3, 0.15, 0.1)  # of one to four
_GAP = (0.03, 0.03)  # across and down
_WORD_GAP = (0.06, 0.02)
_ROUND_GAP = (0.1, 0.02)  # an OCR engine reads a ring beside a word as an O
_RADII = (0.09, 0.2)
_TIGHT_RADIUS = 0.11
_SPOTS = 64  # positions of an object that are tried at once

_SHAPE_SHARE = 0.15  # of the rich world's objects
_ROW_SHARE, _LONG_ROW_SHARE = 0.2, 0.3  # of two or three alike side by side; of three among these
_ROW_GAP = 0.2  # between two objects of a row, in radii
_TURNED_SHARE = 0.4
_SOUGHT_SHARE = 0.6  # of the held-out posters' objects: a held-out combination is looked for
_TRIES = 12  # nouns and colours that are tried at a spot
_SMALLEST_PIXELS = 11  # radius of an icon that can be recognised


@dataclass(frozen=True)
class _Spot:
    """Free room for an object or for a row.

    Attributes:
        x: centre.
        y: centre.
        radius: half of the side of each object's square.
    """

    x: float
    y: float
    radius: float


def place_shapes(
    rng: np.random.Generator, background: Background, phrases: Sequence[Phrase], most: int
) -> tuple[PlacedObject, ...]:
    """Place up to ``most`` shapes in different colours that touch neither each other nor a phrase; fewer if no room."""
    wanted = min(1 + weighted(rng, _ODDS), most)
    colours = [name for name in PALETTE if name != background.colour]
    picks = rng.permutation(len(colours))[:wanted]
    placed: list[PlacedObject] = []
    for pick in picks:
        colour, shape = colours[pick], SHAPES[rng.integers(len(SHAPES))]
        gap = _ROUND_GAP if shape in ("circle", "ring") else _WORD_GAP
        blocked = [_widened(phrase.box, gap) for phrase in phrases]
        blocked += [_widened(other.box, _GAP) for other in placed]
        spot = _free_spot(rng, blocked, _RADII, _TIGHT_RADIUS)
        placed += [PlacedObject(shape, colour, spot.x, spot.y, spot.radius)] if spot else []
    return tuple(placed)


def place_things(
    rng: np.random.Generator,
    size: int,
    background: Background,
    phrases: Sequence[Phrase],
    most: int,
    held_out: bool,
    far: float = FAR,
    things: Sequence[str] = THINGS,
) -> tuple[PlacedObject, ...]:
    """Place up to ``most`` things and shapes; some of them are rows of two or three alike.

    No two rows or single objects are alike in both noun and colour. All colours are far from the background's.

    Args:
        rng: picks everything.
        size: side of the poster in pixels: icons are not so small that nobody can recognise them.
        background: the background.
        phrases: the phrases, which no object touches.
        most: the largest number of objects.
        held_out: seek held-out combinations; otherwise place none of them.
        far: the least distance of the colours to the background's.
        things: the nouns of the things that there are.
    """
    wanted = min(1 + weighted(rng, _ODDS), most)
    colours = [name for name in PALETTE if is_far(PALETTE[name], background.shades, far)]
    low = min(max(0.1, _SMALLEST_PIXELS / size), 0.16)
    blocked = [_widened(phrase.box, _ROUND_GAP) for phrase in phrases]
    placed: list[PlacedObject] = []
    for attempt in range(wanted + 1):
        count = _row_length(rng, wanted - len(placed)) if attempt < wanted else 1  # a last attempt at a single one
        across = (count + (count - 1) * _ROW_GAP / 2, 1.0)
        if count > 1 and rng.random() < 0.3:  # a column
            across = across[::-1]
        taken = blocked + [_widened(other.box, _GAP) for other in placed]
        radii = (low, max(1.05 * low, 0.25 / max(1.0, 0.75 * count)))
        spot = _free_spot(rng, taken, radii, 1.05 * low, across)
        if spot:
            placed += _chosen(rng, _row(spot, count, across), colours, placed, held_out, things)
        if len(placed) >= wanted:
            break
    return tuple(placed)


def _row_length(rng: np.random.Generator, most: int) -> int:
    if most < 2 or rng.random() >= _ROW_SHARE:
        return 1
    return 3 if most > 2 and rng.random() < _LONG_ROW_SHARE else 2


def _row(spot: _Spot, count: int, across: tuple[float, float]) -> list[PlacedObject]:
    """Return the squares of a row or a column, without noun and colour yet."""
    step = (2 + _ROW_GAP) * spot.radius
    offsets = [step * (i - (count - 1) / 2) for i in range(count)]
    down = across[1] > across[0]
    return [
        PlacedObject("", "", spot.x + (0.0 if down else by), spot.y + (by if down else 0.0), spot.radius)
        for by in offsets
    ]


def _chosen(
    rng: np.random.Generator,
    row: Sequence[PlacedObject],
    colours: Sequence[str],
    placed: Sequence[PlacedObject],
    held_out: bool,
    things: Sequence[str],
) -> list[PlacedObject]:
    """Choose noun and colour of a row, so that it shows held-out combinations or none; empty if none is found."""
    sought = held_out and rng.random() < _SOUGHT_SHARE
    known = {(other.shape, other.colour) for other in placed}
    found: list[PlacedObject] = []
    for _ in range(_TRIES):
        nouns = SHAPES if rng.random() < _SHAPE_SHARE else things
        noun, colour = nouns[int(rng.integers(len(nouns)))], colours[int(rng.integers(len(colours)))]
        if (noun, colour) in known:
            continue
        named = [replace(thing, shape=noun, colour=colour) for thing in row]
        if shows_held_out(named, placed) == sought:
            return [_turned(rng, thing) for thing in named]
        if held_out:
            found = named
    return [_turned(rng, thing) for thing in found]


def _turned(rng: np.random.Generator, thing: PlacedObject) -> PlacedObject:
    """Turn an icon by a few degrees or none, and give it the box of its ink."""
    if thing.shape in SHAPES:
        return thing
    turn = TURNS[rng.integers(len(TURNS))] if rng.random() < _TURNED_SHARE else 0
    return replace(thing, turn=turn, sides=icon_sides(thing.shape, turn))


def _free_spot(
    rng: np.random.Generator,
    blocked: Sequence[Sequence[float]],
    radii: tuple[float, float],
    tight: float,
    across: tuple[float, float] = (1.0, 1.0),
) -> _Spot | None:
    """Find room that touches none of the ``blocked`` boxes; None if none was found.

    Args:
        rng: picks centre and radius.
        blocked: boxes as left, top, right, bottom.
        radii: smallest and largest radius.
        tight: the largest radius of a second attempt.
        across: width and height of the room, in diameters.
    """
    low, high = radii
    for largest in (high, tight):
        radius = rng.uniform(low, largest, size=_SPOTS)
        half = radius * np.array(across)[:, None]  # (2, S)
        inset = half + MARGIN
        centre = inset + rng.random((2, _SPOTS)) * (1 - 2 * inset)  # (2, S)
        left_top, right_bottom = centre - half, centre + half
        walls = np.array(blocked).reshape(-1, 4, 1)
        touches = ((left_top < walls[:, 2:]) & (walls[:, :2] < right_bottom)).all(axis=1).any(axis=0)  # (S,)
        touches |= (inset > 0.5).any(axis=0)
        if not touches.all():
            free = int(touches.argmin())
            return _Spot(float(centre[0, free]), float(centre[1, free]), float(radius[free]))
    return None


def _widened(box: Sequence[float], gap: tuple[float, float]) -> tuple[float, float, float, float]:
    return box[0] - gap[0], box[1] - gap[1], box[2] + gap[0], box[3] + gap[1]
