"""The middle of a poster, for what its caption gives no place: people who ask for ``a red cat`` expect it there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from vlad_lightning.data.synthetic.blocks import MARGIN
from vlad_lightning.data.synthetic.captions import Caption
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
_MOST = 3  # things below each other, if there are objects among them


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


def in_the_middle(scene: Scene, caption: Caption, rng: np.random.Generator) -> Scene:
    """Move what a poster shows to its middle: one thing to the center, several below each other in the caption's order.

    Objects get a size that fills the poster. A poster on which there is no room for its phrases, objects and rows of
    objects below each other is left as it is, and so is one with more than three, unless all of them are phrases.

    Args:
        scene: a scene.
        caption: its caption, which tells no place.
        rng: picks the sizes of the objects, and the gap.
    """
    things = [*(_Thing(row=row) for row in scene.rows), *(_Thing(phrase=phrase) for phrase in scene.phrases)]
    rows = len(scene.rows)
    if not things or (rows and len(things) > _MOST):
        return scene
    gap = rng.uniform(*_GAPS)
    letters = sum(thing.extent[1] for thing in things[rows:])
    room = (_WIDEST - gap * (len(things) - 1) - letters) / max(rows, 1)  # height for each object or row
    if room < 0:
        return scene
    sized = [_sized(thing, rng.uniform(*_LONGEST), room) for thing in things[:rows]]
    if any(placed.radius < _LEAST_RADIUS for thing in sized for placed in thing.row):
        return scene
    moved = _below_each_other([*sized, *things[rows:]], _starts(scene, caption), gap)
    return replace(
        scene,
        objects=tuple(placed for thing in moved for placed in thing.row),
        words=tuple(word for thing in moved if thing.phrase is not None for word in thing.phrase.words),
    )


def _starts(scene: Scene, caption: Caption) -> list[int]:
    """Return where the caption names each object or row, then where it names each phrase."""
    objects = iter(caption.phrases)
    said = [tuple(islice(objects, len(row))) for row in scene.rows]
    named = [*(of_row[0] or "" for of_row in said), *(phrase.text for phrase in scene.phrases)]
    found = [re.search(rf"(?<!\w){re.escape(name)}(?!\w)", caption.text) for name in named]
    return [match.start() if match else len(caption.text) for match in found]


def _sized(thing: _Thing, longest: float, room: float) -> _Thing:
    width, height = thing.extent
    return thing.scaled(min(longest / max(width, height), room / height))


def _below_each_other(things: Sequence[_Thing], starts: Sequence[int], gap: float) -> list[_Thing]:
    """Return the things, in their order, the one that is named first at the top."""
    top = 0.5 - (sum(thing.extent[1] for thing in things) + gap * (len(things) - 1)) / 2
    moved = list(things)
    for i in sorted(range(len(things)), key=lambda i: starts[i]):
        height = things[i].extent[1]
        moved[i] = things[i].at(0.5, top + height / 2)
        top += height + gap
    return moved
