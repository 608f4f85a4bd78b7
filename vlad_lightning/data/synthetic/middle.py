"""The middle of a poster, for what its caption gives no place: people who ask for ``a red cat`` expect it there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlad_lightning.data.synthetic.blocks import MARGIN
from vlad_lightning.data.synthetic.scene import Phrase, PlacedObject, Scene
from vlad_lightning.data.synthetic.sentences import CENTERS
from vlad_lightning.data.synthetic.telling import RELATIONS
from vlad_lightning.layout.prompt_parser import REGIONS

_SAID = (*REGIONS, *CENTERS, *(relation for group in RELATIONS.values() for relation in group))
_PLACE = re.compile(rf"\b(?:{'|'.join(sorted(_SAID, key=len, reverse=True))})\b", re.IGNORECASE)

_LONGEST = (0.38, 0.5)  # the longer side of an object or of a row
_WIDEST = 1 - 2 * MARGIN
_LEAST_RADIUS = 0.1  # smaller icons cannot be recognised
_GAPS = (0.05, 0.09)


@dataclass(frozen=True)
class _Thing:
    """An object, a row of objects, or a phrase.

    Attributes:
        row: the objects; none for a phrase.
        phrase: the phrase; None for objects.
    """

    row: tuple[PlacedObject, ...] = ()
    phrase: Phrase | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        if self.phrase is not None:
            return self.phrase.box
        left, top, right, bottom = zip(*(thing.box for thing in self.row), strict=True)
        return min(left), min(top), max(right), max(bottom)

    @property
    def extent(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def centre(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    def scaled(self, factor: float) -> _Thing:
        """Return objects in another size; letters keep theirs, in which they are drawn well."""
        x, y = self.centre
        row = tuple(
            replace(thing, x=x + factor * (thing.x - x), y=y + factor * (thing.y - y), radius=factor * thing.radius)
            for thing in self.row
        )
        return replace(self, row=row)

    def at(self, x: float, y: float) -> _Thing:
        """Return it with its centre at a point."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        row = tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in self.row)
        if self.phrase is None:
            return replace(self, row=row)
        words = (replace(word, x=word.x + dx, y=word.y + dy) for word in self.phrase.words)
        return replace(self, phrase=Phrase(tuple(words)))


def tells_a_place(caption: str) -> bool:
    """Return whether a caption says where something is, in the frame or beside something else."""
    return _PLACE.search(caption) is not None


def in_the_middle(scene: Scene, rng: np.random.Generator) -> Scene:
    """Move what a poster shows to its middle: one thing to the center, two below each other, the upper one above.

    Objects get a size that fills the poster. A poster with more than two phrases, objects and rows of objects, or with
    two for which there is no room below each other, is left as it is.

    Args:
        scene: a scene whose caption tells no place.
        rng: picks the sizes of the objects, and the gap.
    """
    things = [*(_Thing(row=row) for row in scene.rows), *(_Thing(phrase=phrase) for phrase in scene.phrases)]
    if len(things) not in (1, 2):
        return scene
    gap = rng.uniform(*_GAPS) if len(things) == 2 else 0.0
    letters = sum(thing.extent[1] for thing in things if thing.phrase is not None)
    rows = sum(thing.phrase is None for thing in things)
    room = (_WIDEST - gap - letters) / max(rows, 1)  # height for each object or row
    sized = [thing if thing.phrase is not None else _sized(thing, rng.uniform(*_LONGEST), room) for thing in things]
    if room < 0 or any(thing.radius < _LEAST_RADIUS for each in sized for thing in each.row):
        return scene
    return _below_each_other(scene, sized, gap)


def _sized(thing: _Thing, longest: float, room: float) -> _Thing:
    width, height = thing.extent
    return thing.scaled(min(longest / max(width, height), room / height)) if room > 0 else thing


def _below_each_other(scene: Scene, things: Sequence[_Thing], gap: float) -> Scene:
    upper_first = sorted(range(len(things)), key=lambda i: things[i].centre[1])
    top = 0.5 - (sum(thing.extent[1] for thing in things) + gap * (len(things) - 1)) / 2
    moved = list(things)
    for i in upper_first:
        height = things[i].extent[1]
        moved[i] = things[i].at(0.5, top + height / 2)
        top += height + gap
    return replace(
        scene,
        objects=tuple(placed for thing in moved for placed in thing.row),
        words=tuple(word for thing in moved if thing.phrase is not None for word in thing.phrase.words),
    )
