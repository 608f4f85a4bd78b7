"""The coloured shapes on a picture: their kinds and colours, and as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.object_requests import SHAPES

COLOURS = tuple(PALETTE)

KINDS: tuple[str | None, ...] = (*SHAPES, None)
"""What the shape's logits stand for; None is an object that has none of the shapes."""

FIELDS = 7
"""Numbers a known object: 1 where there is one, shape and colour as indices, centre x and y, width, height."""

MOST_OBJECTS = 12
"""On a poster."""


@dataclass(frozen=True)
class FoundObject:
    """An object on a picture.

    Attributes:
        shape: one of :data:`~vlad_lightning.layout.object_requests.SHAPES`, or None where it has none of them.
        colour: a name of the palette.
        x: centre, a fraction of the width.
        y: centre, a fraction of the height.
        width: of its upright box, a fraction of the frame.
        height: likewise.
        score: how sure the detector is that something stands there, in [0, 1].
    """

    shape: str | None
    colour: str
    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    score: float = 1.0


def encode_objects(posters: Sequence[Iterable[FoundObject]], most: int = MOST_OBJECTS) -> Tensor:
    """Known objects as numbers.

    Args:
        posters: the objects of each of B posters.
        most: M, objects a poster; further ones are refused.

    Returns:
        (B, M, 7) float32, see :data:`FIELDS`; zero where there is no object.

    Raises:
        ValueError: where a poster has more than ``most``, or a shape or colour is unknown.
    """
    things = torch.zeros(len(posters), most, FIELDS)
    for row, objects in zip(things, posters, strict=True):
        listed = list(objects)
        if len(listed) > most:
            raise ValueError(f"a poster has {len(listed)} objects; at most {most} are allowed")
        for slot, thing in zip(row, listed, strict=False):
            if thing.shape not in KINDS or thing.colour not in COLOURS:
                raise ValueError(f"object is a {thing.colour} {thing.shape}; allowed are {KINDS} in {COLOURS}")
            kind, colour = KINDS.index(thing.shape), COLOURS.index(thing.colour)
            slot.copy_(torch.tensor([1.0, kind, colour, thing.x, thing.y, thing.width, thing.height]))
    return things
