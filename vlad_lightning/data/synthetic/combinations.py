"""Combinations that no rich training poster shows: a noun in a colour, and a noun in a relation to another.

A stable hash decides, so what is held out depends on no seed: one in ten of all (noun, colour) pairs, and one in ten of
all (noun, relation, noun) triples with two different nouns. That a car is left of a tree and that the tree is right of
the car are one and the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from vlad_lightning.data.synthetic.scene import PlacedObject
from vlad_lightning.data.synthetic.telling import relation_of

HELD_OUT_SHARE = 10
"""One combination in this many is held out."""

_TURNED = {"right": "left", "below": "above"}


def is_colour_held_out(noun: str, colour: str) -> bool:
    """Return whether a noun in a colour is kept for evaluation."""
    return _held_out(f"{colour} {noun}")


def is_relation_held_out(noun: str, relation: str, other: str) -> bool:
    """Return whether a noun in a relation to another one is kept for evaluation.

    Args:
        noun: a noun.
        relation: ``left``, ``right``, ``above`` or ``below``: where the first is relative to the other.
        other: the other noun; never held out where both are the same.

    Example:
        >>> is_relation_held_out("car", "left", "tree") == is_relation_held_out("tree", "right", "car")
        True
    """
    if noun == other:
        return False
    if relation in _TURNED:
        noun, relation, other = other, _TURNED[relation], noun
    return _held_out(f"{noun} {relation} {other}")


def shows_held_out(new: Iterable[PlacedObject], placed: Iterable[PlacedObject]) -> bool:
    """Return whether an object among ``new`` has a held-out colour, or stands in a held-out relation to a placed one.

    Every clear relation counts, whether or not a caption tells it.
    """
    others = tuple(placed)
    return any(
        is_colour_held_out(thing.shape, thing.colour)
        or any(
            is_relation_held_out(thing.shape, relation, other.shape)
            for other in others
            if (relation := relation_of(thing, other)) is not None
        )
        for thing in new
    )


@lru_cache(maxsize=65_536)
def _held_out(combination: str) -> bool:
    digest = hashlib.sha256(combination.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0
