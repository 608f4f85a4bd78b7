"""The coloured objects on a picture: their kinds, their colours, and their encoding as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import SHAPES, THINGS

COLOURS = tuple(PALETTE)

# The things come last: a detector of shapes alone has the first of these classes.
KINDS: tuple[str | None, ...] = (*SHAPES, None, *THINGS)
"""The classes of the shape logits; None is an object that is none of them."""

SHAPE_KINDS = len(SHAPES) + 1
"""How many of the first :data:`KINDS` a detector of shapes alone has."""

FIELDS = 7
"""Numbers per known object: 1 if there is an object, shape and colour as indices, centre x and y, width, height."""

MOST_OBJECTS = 12
"""The most objects on a poster."""


@dataclass(frozen=True)
class FoundObject:
    """An object on a picture.

    Attributes:
        shape: one of :data:`~vlad_lightning.layout.nouns.NOUNS`, or None if it is none of them.
        colour: a name of the palette.
        x: centre, a fraction of the width.
        y: centre, a fraction of the height.
        width: width of its upright box, a fraction of the frame's.
        height: height of its upright box, a fraction of the frame's.
        score: the detector's confidence that there is an object, in [0, 1].
    """

    shape: str | None
    colour: str
    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    score: float = 1.0


def encode_objects(posters: Sequence[Iterable[FoundObject]], most: int = MOST_OBJECTS) -> Tensor:
    """Encode known objects as numbers.

    Args:
        posters: the objects of each of B posters.
        most: M, the most objects per poster.

    Returns:
        (B, M, 7) float32, see :data:`FIELDS`; zero if there is no object.

    Raises:
        ValueError: if a poster has more than ``most`` objects, or a shape or colour is unknown.
    """
    encoded = torch.zeros(len(posters), most, FIELDS)
    for row, objects in zip(encoded, posters, strict=True):
        listed = list(objects)
        if len(listed) > most:
            raise ValueError(f"a poster has {len(listed)} objects; at most {most} are allowed")
        for slot, obj in zip(row, listed, strict=False):
            if obj.shape not in KINDS or obj.colour not in COLOURS:
                raise ValueError(f"object is a {obj.colour} {obj.shape}; allowed are {KINDS} in {COLOURS}")
            kind, colour = KINDS.index(obj.shape), COLOURS.index(obj.colour)
            slot.copy_(torch.tensor([1.0, kind, colour, obj.x, obj.y, obj.width, obj.height]))
    return encoded
