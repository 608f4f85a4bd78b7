"""True captions of a scene, in many forms.

As in MARIO, a caption has no quotes around the words that are drawn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vlad_lightning.data.synthetic import casual, sentences
from vlad_lightning.data.synthetic.beside_words import beside_words
from vlad_lightning.data.synthetic.scene import OF_SHAPES, TEXTURES, WORLDS, Scene, World
from vlad_lightning.data.synthetic.shades import SHADES
from vlad_lightning.data.synthetic.telling import (
    RELATIONS,
    CaptionContent,
    CaptionOdds,
    choose,
    with_coloured_medium,
    without_places,
)
from vlad_lightning.data.synthetic.undrawn import HEADS, with_undrawn
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import FURTHER_THINGS, NOUNS, SHAPES, plural_of
from vlad_lightning.layout.prompt_parser import REGIONS, PromptDecomposer, quote_words

MOST_CHUNKS = 12
"""The largest number of phrases in a caption besides its words to draw, so that each has a slot in a batch."""

_CASUAL = 0.15


def _grammar_words(world: World) -> frozenset[str]:
    """Return every word that a caption may contain besides the words that are drawn."""
    relations = (relation for group in RELATIONS.values() for relation in group)
    forms: tuple[str, ...] = (*sentences.TEMPLATES, *sentences.MEDIA, *sentences.SAYING, *sentences.SAYING_TEXT)
    forms += (*sentences.NAMING,)
    forms += (*sentences.CENTERS, *sentences.COLOUR_ENDINGS, *casual.MEDIA, *casual.SAYING, *casual.GROUNDS)
    names = (*PALETTE, *SHAPES, *TEXTURES, *REGIONS, "gradient", "background", "word", "words", "on", "a", "an", "at")
    if world not in OF_SHAPES:
        names += (*NOUNS, *map(plural_of, NOUNS), *sentences.NUMBERS.values(), *sentences.ADJECTIVES)
        looks = (sentences.SIZES, sentences.CASES, sentences.FAMILIES)
        names += (*sentences.SCENERY, *(word for words in looks for word in words.values()))
    if world == "literal":
        names += (*HEADS, *(shade for shades in SHADES.values() for shade in shades))
        names += (*FURTHER_THINGS, *map(plural_of, FURTHER_THINGS))
    bare = re.sub(r"\{\w+\}", " ", " ".join((*forms, *names, *relations, "and", "in")))
    return frozenset(re.findall(r"\w+", bare.casefold()))


GRAMMAR_WORDS = {world: _grammar_words(world) for world in WORLDS}
"""Lower-case words that no poster of a world draws: a caption's drawn words can be distinguished from the others."""


@dataclass(frozen=True)
class Caption:
    """A caption of a scene.

    Attributes:
        text: the caption without quotes and without a full stop.
        phrases: for each object of the scene, its phrase, with the article if any; None if it is not mentioned.
        background: the phrase for the background; None if it is not mentioned.
    """

    text: str
    phrases: tuple[str | None, ...]
    background: str | None


def describe(scene: Scene, rng: np.random.Generator, odds: CaptionOdds = CaptionOdds()) -> Caption:
    """Write a caption of a scene.

    Args:
        scene: any scene, also an empty background.
        rng: picks the content and the form.
        odds: how often it leaves something out, or has words for which the poster shows nothing.
    """
    content = choose(scene, rng, odds)
    if odds.undrawn or odds.medium or odds.qualifier:
        known = GRAMMAR_WORDS["literal"] | {word.text.casefold() for word in scene.words}
        content = with_undrawn(content, rng, odds, known)
    if odds.coloured_medium:
        content = with_coloured_medium(content, casual.MEDIA, rng, odds)
    if odds.untold_places and rng.random() < odds.untold_places:
        content = without_places(content)
    ground, called = None, content.medium
    if rng.random() < _CASUAL:
        if content.background:
            ground = casual.ground_of(content.background, rng)
        text, phrase_of = casual.casual(content, ground, rng), casual.object_phrase
    else:
        if content.background:
            ground = sentences.ground_of(content.background)
        beside = beside_words(content, ground, rng) if _is_beside(content, rng, odds) else None
        text, phrase_of = beside or sentences.sentence(content, rng), sentences.object_phrase
        called = sentences.with_article(called) if called else None
    phrases = tuple(phrase_of(named) for named in content.objects for _ in named.row)
    told = ground.phrase if ground else called if content.tells_ground else None
    return Caption(text, phrases or (None,) * len(scene.objects), told)


def _is_beside(content: CaptionContent, rng: np.random.Generator, odds: CaptionOdds) -> bool:
    return content.tells_places and odds.beside > 0 and rng.random() < odds.beside


def reads_back(scene: Scene, caption: Caption) -> bool:
    """Return whether parsing the caption with the words' boxes finds each phrase and each mentioned object.

    The phrases to draw must be found whole and separate from each other, and the phrase of each object and of the
    background must be among the first :data:`MOST_CHUNKS` chunks.
    """
    quoted = quote_words(caption.text, [word.text for word in scene.words], [word.quad() for word in scene.words])
    parts = PromptDecomposer()(quoted)
    spans: list[list[str]] = [[] for _ in set(parts.groups)]
    for word, group in zip(parts.words, parts.groups, strict=True):
        spans[group].append(word.text)
    chunks = {chunk.text for chunk in parts.objects[:MOST_CHUNKS]}
    named = {name for name in (*caption.phrases, caption.background) if name}
    whole = sorted(" ".join(words) for words in spans) == sorted(phrase.text for phrase in scene.phrases)
    return whole and len(parts.objects) <= MOST_CHUNKS and named <= chunks
