"""What a caption tells of a scene, before it is put into words: everything that it tells is so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.data.synthetic.scene import Background, Phrase, PlacedObject, Scene

_SILENT_BACKGROUND, _SILENT_OBJECTS, _SILENT_COLOUR = 0.15, 0.05, 0.05

RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


@dataclass(frozen=True)
class NamedObject:
    """An object and the noun phrase for it, without an article."""

    thing: PlacedObject
    name: str


@dataclass(frozen=True)
class CaptionContent:
    """What a caption tells: at least one of the three.

    Attributes:
        background: None where the caption is silent about it.
        objects: all of the scene, or none.
        phrases: all of the scene.
    """

    background: Background | None
    objects: tuple[NamedObject, ...]
    phrases: tuple[Phrase, ...]


def choose(scene: Scene, rng: np.random.Generator) -> CaptionContent:
    """Mostly all; an object's colour is left out only where its shape is the only one of its kind."""
    objects = scene.objects if rng.random() >= _SILENT_OBJECTS else ()
    background = scene.background if rng.random() >= _SILENT_BACKGROUND else None
    if not objects and not scene.words:
        background = scene.background
    shapes = Counter(thing.shape for thing in scene.objects)
    names = [
        thing.shape if shapes[thing.shape] == 1 and rng.random() < _SILENT_COLOUR else f"{thing.colour} {thing.shape}"
        for thing in objects
    ]
    return CaptionContent(background, tuple(map(NamedObject, objects, names)), scene.phrases)


def relation_of(a: PlacedObject, b: PlacedObject) -> str | None:
    """Where ``a`` lies from ``b``: ``left``, ``right``, ``above``, ``below``; None where it is not clearly one."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of them, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
