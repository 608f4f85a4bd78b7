"""The content of a caption, before it is put into words: all of it is true of the scene."""

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
    """The content of a caption: at least one of the three.

    Attributes:
        background: the scene's background; None if the caption does not mention it.
        objects: all objects of the scene, or none.
        phrases: all phrases of the scene.
    """

    background: Background | None
    objects: tuple[NamedObject, ...]
    phrases: tuple[Phrase, ...]


def choose(scene: Scene, rng: np.random.Generator) -> CaptionContent:
    """Choose a caption's content, mostly all; an object's colour is omitted only if no other has its shape."""
    objects = scene.objects if rng.random() >= _SILENT_OBJECTS else ()
    background = scene.background if rng.random() >= _SILENT_BACKGROUND else None
    if not objects and not scene.words:
        background = scene.background
    shapes = Counter(item.shape for item in scene.objects)
    names = [
        item.shape if shapes[item.shape] == 1 and rng.random() < _SILENT_COLOUR else f"{item.colour} {item.shape}"
        for item in objects
    ]
    return CaptionContent(background, tuple(map(NamedObject, objects, names)), scene.phrases)


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
