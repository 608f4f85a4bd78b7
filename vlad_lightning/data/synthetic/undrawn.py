"""Words in a caption for which its poster shows nothing: kinds of posters, objects that cannot be drawn, adjectives.

People ask for ``a travel brochure`` and for ``a loaf of bread``. A model that has read of nothing but posters and of
the objects that it can draw gives each such phrase a box, and fills it with something. Or it leaves out ``a golden
star``, because it has learned that a phrase with a strange word is nothing that it can draw.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import numpy as np

from vlad_lightning.data.synthetic.telling import CaptionContent, CaptionOdds, NamedObject, pick
from vlad_lightning.data.synthetic.vocabulary import dictionary
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.prompt_parser import REGIONS

HEADS = (
    *("poster", "picture", "sign", "card", "banner", "flyer", "advertisement", "label", "logo", "print", "notice"),
    *("brochure", "leaflet", "placard", "postcard", "sticker", "invitation", "billboard", "cover", "ticket", "menu"),
)
"""Nouns for something that shows words; other words come before them."""

_QUALIFIERS = (0.3, 0.5, 0.2)  # odds of none, one and two words before the head
_SAID_COLOUR = 0.4
_SAID_REGION = 0.4


def with_undrawn(
    content: CaptionContent, rng: np.random.Generator, odds: CaptionOdds, known: Set[str]
) -> CaptionContent:
    """Add to a caption's content what its poster does not show.

    Args:
        content: what the poster shows.
        rng: picks the words, among those that training posters may show.
        odds: how often there are such words.
        known: lower-case words that mean something else in this caption: the grammar's, and those of the poster.
    """
    if rng.random() < odds.medium:
        content = replace(content, medium=_medium(rng, known))
    objects = tuple(_qualified(named, rng, odds, known) for named in content.objects)
    if rng.random() < odds.undrawn:
        at = int(rng.integers(len(objects) + 1))
        objects = (*objects[:at], _undrawn(rng, known), *objects[at:])
    return replace(content, objects=objects)


def _medium(rng: np.random.Generator, known: Set[str]) -> str:
    count = int(rng.choice(len(_QUALIFIERS), p=_QUALIFIERS))
    return " ".join([*(_word(rng, known) for _ in range(count)), pick(rng, HEADS)])


def _qualified(named: NamedObject, rng: np.random.Generator, odds: CaptionOdds, known: Set[str]) -> NamedObject:
    return replace(named, name=f"{_word(rng, known)} {named.name}") if rng.random() < odds.qualifier else named


def _undrawn(rng: np.random.Generator, known: Set[str]) -> NamedObject:
    colour = f"{pick(rng, list(PALETTE))} " if rng.random() < _SAID_COLOUR else ""
    region = pick(rng, list(REGIONS)) if rng.random() < _SAID_REGION else None
    return NamedObject((), colour + _word(rng, known), region)


def _word(rng: np.random.Generator, known: Set[str]) -> str:
    """Draw an English word that is none of the known ones."""
    words = dictionary(False, frozenset())
    while (word := pick(rng, words)) in known:
        pass
    return word
