"""Captions that say where an object is relative to the words: ``a red car below the words FAST TRACK``."""

from __future__ import annotations

import numpy as np

from vlad_lightning.data.synthetic.scene import Phrase
from vlad_lightning.data.synthetic.sentences import (
    MEDIA,
    Ground,
    letters_of,
    object_phrase,
    objects_text,
    told_style,
    with_article,
)
from vlad_lightning.data.synthetic.telling import RELATIONS, CaptionContent, NamedObject, pick, relation_of_points

_INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_FORMS = (
    "{medium} with {thing} {side} {words}{ground}{others}",
    "{medium} with {words} {inverse} {thing}{ground}{others}",
    "{thing} {side} {words}{ground}{others}",
    "{words} {inverse} {thing}{ground}{others}",
    "{medium}{ground} with {thing} {side} {words}{others}",
)
_JOINING = (", ", " and ", ", with ")


def beside_words(content: CaptionContent, ground: Ground | None, rng: np.random.Generator) -> str | None:
    """Write where an object or a row of objects is relative to the only phrase, then the other objects.

    Args:
        content: what the poster shows.
        ground: what is said of the background; None if it is not mentioned.
        rng: picks the form.

    Returns:
        The caption; None where there is no object or not one phrase, or where the side is not clear.
    """
    if not content.objects or len(content.phrases) != 1:
        return None
    at = int(rng.integers(len(content.objects)))
    thing, phrase = content.objects[at], content.phrases[0]
    side = side_of(thing, phrase)
    if side is None:
        return None
    others = objects_text((*content.objects[:at], *content.objects[at + 1 :]), rng)
    forms = [form for form in _FORMS if "{medium}" in form] if content.tells_ground else _FORMS
    return pick(rng, forms).format(
        medium=with_article(content.medium) if content.medium else pick(rng, MEDIA),
        thing=object_phrase(thing),
        side=pick(rng, RELATIONS[side]),
        inverse=pick(rng, RELATIONS[_INVERSE[side]]),
        words=_named(phrase, rng),
        ground=f" {ground.text}" if ground else "",
        others=f"{pick(rng, _JOINING)}{others}" if others else "",
    )


def side_of(thing: NamedObject, phrase: Phrase) -> str | None:
    """Return on which side of a phrase an object is: one of :data:`RELATIONS`; None where that is not clear."""
    left, top, right, bottom = phrase.box
    centre = ((left + right) / 2, (top + bottom) / 2)
    sides = {relation_of_points((each.x, each.y), centre) for each in thing.row}
    return sides.pop() if len(sides) == 1 else None


def _named(phrase: Phrase, rng: np.random.Generator) -> str:
    """Write ``the word SALE``, ``the big red words BIG SALE``, ``SALE``."""
    if rng.random() < 0.2:
        return phrase.text
    look = letters_of(phrase, told_style([phrase], rng), rng.random() < 0.4)
    noun = pick(rng, ("text", "words" if len(phrase.words) > 1 else "word", "lettering"))
    return " ".join(filter(None, ("the", look, noun, phrase.text)))
