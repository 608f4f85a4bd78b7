"""The content of a caption, before it is put into words: all of it is true of the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.data.synthetic.scene import Background, Phrase, PlacedObject, Scene
from vlad_lightning.layout.nouns import plural_of

RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


@dataclass(frozen=True)
class Silence:
    """How often a caption leaves something out.

    Attributes:
        background: share of the captions without the background.
        objects: share of the captions without the objects.
        colour: share of the objects whose colour is left out, if no other has its shape.
    """

    background: float = 0.15
    objects: float = 0.05
    colour: float = 0.05


@dataclass(frozen=True)
class NamedObject:
    """An object, or a row of objects that are alike, and the noun phrase for it, without an article.

    Attributes:
        row: the object, or the objects of the row.
        name: ``red car``; of a row, without its number, ``red cars``.
    """

    row: tuple[PlacedObject, ...]
    name: str

    @property
    def region(self) -> str | None:
        """The ninth of the frame it lies in; None where the objects of a row lie in several."""
        regions = {thing.region for thing in self.row}
        return regions.pop() if len(regions) == 1 else None


@dataclass(frozen=True)
class CaptionContent:
    """The content of a caption: at least one of the three.

    Attributes:
        background: the scene's background; None if the caption does not mention it.
        objects: all objects of the scene, or none.
        phrases: all phrases of the scene.
    """

    background: Background | None
    objects: tuple[NamedObject, ...]
    phrases: tuple[Phrase, ...]


def choose(scene: Scene, rng: np.random.Generator, silence: Silence = Silence()) -> CaptionContent:
    """Choose a caption's content, mostly all; an object's colour is omitted only if no other has its shape."""
    objects = scene.objects if rng.random() >= silence.objects else ()
    background = scene.background if rng.random() >= silence.background else None
    if not objects and not scene.words:
        background = scene.background
    rows = scene.rows if objects else ()
    shapes = Counter(row[0].shape for row in rows)
    named = []
    for row in rows:
        noun = row[0].shape if len(row) == 1 else plural_of(row[0].shape)
        silent = shapes[row[0].shape] == 1 and rng.random() < silence.colour
        named.append(NamedObject(row, noun if silent else f"{row[0].colour} {noun}"))
    return CaptionContent(background, tuple(named), scene.phrases)


def relation_between(first: NamedObject, second: NamedObject) -> str | None:
    """Return where ``first`` is relative to ``second``; None where that is not clear for all of their objects."""
    relations = {relation_of(a, b) for a in first.row for b in second.row}
    return relations.pop() if len(relations) == 1 else None


def relation_of(a: PlacedObject, b: PlacedObject) -> str | None:
    """Return where ``a`` is relative to ``b``: ``left``, ``right``, ``above``, ``below``; None if none is clear."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """Pick one of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
