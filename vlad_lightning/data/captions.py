"""The caption grammar: a scene in words, in many forms, with nothing said that is not so.

As in MARIO, a caption has no quotes around the words that are drawn. The background phrase always ends in
``<colour> background`` or ``<colour> gradient background``; a drawn word is followed by its place, if that is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from vlad_lightning.data.scene import SHAPES, TEXTURES, Background, PlacedObject, PlacedWord, Scene
from vlad_lightning.models.colours import PALETTE
from vlad_lightning.models.prompts import REGIONS

_TEMPLATES = (
    "{objects} {background}, {text}",
    "{objects} {background} {text}",
    "{medium} {text}, {objects} {background}",
    "{medium} {text} {background}, with {objects}",
    "{medium} {background} {text}, with {objects}",
    "{medium} {background} with {objects}, {text}",
    "{medium} of {objects} {background}, {text}",
    "{text} {background}, with {objects}",
    "{text}, {objects} {background}",
)
_MEDIA = ("a poster", "a picture", "a sign", "a card", "a banner", "a flyer", "a book cover", "an advertisement")
_SAYING = ("saying", "that says", "that reads", "reading", "showing")
_SAYING_TEXT = (
    "with the{colour} text",
    "and the{colour} {word}",
    "with the{colour} {word}",
    "with the{colour} lettering",
)
_NAMING = ("the{colour} text", "the{colour} {word}", "the{colour} lettering")
_RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_CENTERS = ("in the center", "in the middle", "at the center", "in the centre")
_PREPOSITIONS = {"left": ("on the", "at the"), "right": ("on the", "at the")}
_COLOUR_ENDINGS = (" in {colour}", " in {colour} letters")


def _grammar_words() -> frozenset[str]:
    """Every word that a caption may hold beside the words that are drawn."""
    relations = (relation for group in _RELATIONS.values() for relation in group)
    texts = (*_TEMPLATES, *_MEDIA, *_SAYING, *_SAYING_TEXT, *_NAMING, *relations, *_CENTERS, *_COLOUR_ENDINGS, *REGIONS)
    names = (*PALETTE, *SHAPES, *TEXTURES, "gradient", "background", "word", "words", "on", "a", "an", "at", "and")
    bare = re.sub(r"\{\w+\}", " ", " ".join((*texts, *names)))
    return frozenset(re.findall(r"\w+", bare.casefold()))


GRAMMAR_WORDS = _grammar_words()
"""In lower case. No poster draws one of these, so that a caption's drawn words are told from the rest."""


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of a scene, without quotes and without a full stop.

    Args:
        scene: at least one object and one word.
        rng: picks among the forms.
    """
    template = _pick(rng, _TEMPLATES)
    openings = _NAMING if template.startswith("{text}") else (*_SAYING, *_SAYING_TEXT)
    return template.format(
        medium=_pick(rng, _MEDIA),
        objects=_objects(scene.objects, rng),
        background=background_phrase(scene.background),
        text=_text(scene.words, openings, rng),
    )


def background_phrase(background: Background) -> str:
    """``on a green background``, ``on a striped green background``, ``on an orange gradient background``."""
    before = f"{background.kind} " if background.kind in TEXTURES else ""
    after = " gradient" if background.kind == "gradient" else ""
    return f"on {_with_article(f'{before}{background.colour}{after} background')}"


def relation_of(a: PlacedObject, b: PlacedObject) -> str | None:
    """Where ``a`` lies from ``b``: ``left``, ``right``, ``above``, ``below``; None where it is not clearly one."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def _objects(objects: Sequence[PlacedObject], rng: np.random.Generator) -> str:
    """Pairs by their relation, single ones by their region."""
    parts = []
    rest = list(objects)
    while rest:
        first = rest.pop(0)
        relation = relation_of(first, rest[0]) if rest else None
        if relation and rng.random() < 0.75:
            parts.append(f"{_name(first)} {_pick(rng, _RELATIONS[relation])} {_name(rest.pop(0))}")
        else:
            parts.append(f"{_name(first)} {_place(first.region, rng)}")
    return _joined(parts)


def _text(words: Sequence[PlacedWord], openings: Sequence[str], rng: np.random.Generator) -> str:
    """The drawn words after an opening, with their places (a single one may lack it) and, in half, their colours."""
    place_told = len(words) > 1 or rng.random() < 0.9
    colour_told = rng.random() < 0.5
    opening = _pick(rng, openings)
    shared = len({word.colour for word in words}) == 1
    before = f" {words[0].colour}" if colour_told and shared and "{colour}" in opening else ""
    ending = _pick(rng, _COLOUR_ENDINGS) if colour_told and not before else ""
    parts = [
        word.text + (f" {_place(word.region, rng)}" if place_told else "") + ending.format(colour=word.colour)
        for word in words
    ]
    return opening.format(colour=before, word="word" if len(words) == 1 else "words") + " " + _joined(parts)


def _place(region: str, rng: np.random.Generator) -> str:
    if region == "center":
        return _pick(rng, _CENTERS)
    return f"{_pick(rng, _PREPOSITIONS.get(region, ('at the',)))} {region}"


def _name(thing: PlacedObject) -> str:
    return _with_article(f"{thing.colour} {thing.shape}")


def _with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
