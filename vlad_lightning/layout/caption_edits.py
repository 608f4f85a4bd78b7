"""Captions with one thing changed, so that they are no longer true: hard negatives, and the questions of probes.

An edited caption reads like a true one: a new colour, noun or place is one that the prompt does not use yet, if there
is one, and `a` becomes `an` where needed. So it can be distinguished from a true caption only by the picture, not by
its wording.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.lettering_requests import requested_lettering
from vlad_lightning.layout.nouns import NOUNS, alike, plural_of, read_noun
from vlad_lightning.layout.prompt_parser import (
    REGIONS,
    Phrase,
    PromptDecomposer,
    comparable,
    drawn_words,
    requested_regions,
)

KINDS = (
    "background_colour",
    "object_colour",
    "object_shape",
    "object_position",
    "colours_swapped",
    "word_replaced",
    "word_position",
    "word_colour",
    "word_family",
)
"""What :func:`edit_caption` can change."""

WORDS = (
    *("sun", "tea", "map", "joy", "open", "lamp", "gift", "moon", "road", "song", "wolf", "zone", "apple", "brick"),
    *("cloud", "dream", "event", "flame", "grape", "house", "image", "juice", "knife", "lemon", "music", "night"),
    *("ocean", "party", "quiet", "river", "stone", "tiger", "urban", "voice", "water", "youth", "animal", "bridge"),
    *("coffee", "dinner", "engine", "forest", "garden", "hammer", "island", "jacket", "kitchen", "library", "market"),
    *("network", "october", "pepper", "quality", "rocket", "school", "theatre", "village", "weather", "journey"),
    *("2025", "314", "88", "90210", "4711", "16", "1984", "777", "503", "2468"),
)
"""Words to draw that replace each other, unless the caller gives others."""

_COLOUR = re.compile(rf"\b({'|'.join(PALETTE)})\b(?=\s+[\w-])", re.IGNORECASE)
_ANY_COLOUR = re.compile(rf"\b({'|'.join(PALETTE)})\b", re.IGNORECASE)
_FAMILIES = ("sans-serif", "serif", "monospaced", "handwritten")
_FAMILY = re.compile(rf"(?<![\w-])({'|'.join(_FAMILIES)})(?![\w-])", re.IGNORECASE)
_BACKGROUND = re.compile(r"\b(?:background|bg)\b", re.IGNORECASE)
_LETTERING = re.compile(r"\b(?:text|words?|letter(?:s|ing)?|type|font)\b", re.IGNORECASE)
_RELATION = re.compile(r"\s+(?:(?:to\s+the\s+)?(?P<side>left|right)\s+of|(?P<level>above|over|below|under))\s+", re.I)
_OPPOSITE = {"left": "right", "above": "below", "over": "under"}
_OPPOSITE |= {second: first for first, second in _OPPOSITE.items()}
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_CENTERS = ("in the center", "in the middle", "at the center", "in the centre")
_PREPOSITIONS = {"left": ("on the", "at the"), "right": ("on the", "at the")}

_decompose = PromptDecomposer()


@dataclass(frozen=True)
class _Change:
    """``text`` instead of ``prompt[start:end]``."""

    start: int
    end: int
    text: str


_Edit = tuple[_Change, ...]
_Editor = Callable[["_Prompt", random.Random], list[_Edit]]


@dataclass(frozen=True)
class _Prompt:
    """A prompt in parts.

    Attributes:
        text: the whole prompt.
        words: the words to draw.
        chunks: all other chunks, in order.
        objects: the chunks that name an object in the picture.
        nouns: see :func:`edit_caption`.
        pool: ``words`` of :func:`edit_caption`.
    """

    text: str
    words: tuple[Phrase, ...]
    chunks: tuple[Phrase, ...]
    objects: tuple[Phrase, ...]
    nouns: tuple[str, ...]
    pool: tuple[str, ...]

    @classmethod
    def parse(cls, prompt: str, nouns: Sequence[str], pool: Sequence[str]) -> _Prompt:
        parts = _decompose(prompt)
        others = (_BACKGROUND, _LETTERING)
        objects = (p for p in parts.objects if not _region(p.text) and not any(o.search(p.text) for o in others))
        return cls(prompt, parts.words, parts.objects, tuple(objects), tuple(nouns), tuple(pool))

    def unused_colour(self, instead_of: str, rng: random.Random) -> str:
        """Choose a colour that the prompt does not name; any other colour if it names all."""
        named = set(re.findall(r"\w+", self.text.casefold()))
        return _choose([c for c in PALETTE if c not in named], [c for c in PALETTE if c != instead_of], rng)


def edit_caption(
    prompt: str, kind: str, rng: random.Random, nouns: Sequence[str] = NOUNS, words: Sequence[str] = WORDS
) -> str | None:
    """Change exactly one thing in a prompt, so that it is no longer true.

    Args:
        prompt: a true caption; the words to draw are in quotes.
        kind: one of :data:`KINDS`: another colour of the background or of an object, another noun, another place of an
            object (or the opposite relation of two), the colours of two objects exchanged, another word to draw, or
            another place, colour or family of letters of a word to draw.
        rng: chooses the change.
        nouns: at least two, in the singular; an object's noun among them may be replaced by another of its kind, a
            plural by a plural.
        words: replacements for a word to draw; they take its case.

    Returns:
        The edited caption; None if the prompt has nothing of this kind to change.

    Raises:
        ValueError: if ``kind`` is not one of :data:`KINDS`.

    Example:
        >>> edit_caption("a red star left of a pink ring", "object_position", random.Random(0))
        'a red star right of a pink ring'
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    edits = _EDITORS[kind](_Prompt.parse(prompt, nouns, words), rng)
    return _apply(prompt, rng.choice(edits)) if edits else None


def _background_colour(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    return [(_recoloured(prompt, c, rng),) for p in prompt.chunks if _BACKGROUND.search(p.text) for c in _colours(p)]


def _object_colour(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    return [(_recoloured(prompt, c, rng),) for p in prompt.objects for c in _colours(p)]


def _object_shape(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    edits: list[_Edit] = []
    for noun in _nouns(prompt):
        name, plural = read_noun(noun.text.casefold(), prompt.nouns) or (noun.text, False)
        others = [plural_of(other) if plural else other for other in alike(name, prompt.nouns)]
        unnamed = [n for n in others if not re.search(rf"\b{re.escape(n)}\b", prompt.text, re.IGNORECASE)]
        edits.append((_Change(noun.start, noun.end, _choose(unnamed, others, rng)),))
    return edits


def _object_position(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    edits: list[_Edit] = []
    for obj in prompt.objects:
        for after in prompt.chunks:
            if after.start < obj.end:
                continue
            between = prompt.text[obj.end : after.start]
            relation = _RELATION.fullmatch(between)
            if after in prompt.objects and relation:
                group = "side" if relation["side"] else "level"
                start, end = (obj.end + at for at in relation.span(group))
                edits.append((_Change(start, end, _OPPOSITE[relation[group].lower()]),))
            region = _region(after.text)
            if region and not between.strip(" ,"):
                edits.append((_moved(after, [r for r in REGIONS if r != region], rng),))
    return edits


def _colours_swapped(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    coloured = [(obj, colours[0]) for obj in prompt.objects if len(colours := _colours(obj)) == 1]
    edits: list[_Edit] = []
    for i, (first, one) in enumerate(coloured):
        for second, other in coloured[i + 1 :]:
            alike = one.text.casefold() == other.text.casefold()
            if not alike and _without(first, one) != _without(second, other):
                edits.append((_Change(one.start, one.end, other.text), _Change(other.start, other.end, one.text)))
    return edits


def _word_replaced(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    drawn = set(map(comparable, drawn_words(prompt.text)))
    others = [word for word in prompt.pool if comparable(word) not in drawn]
    if not others:
        return []
    return [(_Change(w.start, w.end, _in_case_of(w.text, rng.choice(others))),) for w in prompt.words]


def _word_position(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    asked = requested_regions(prompt.text)
    edits: list[_Edit] = []
    for chunk in prompt.chunks:
        region = _region(chunk.text)
        if region is None:
            continue
        used = {where for _, where in asked}
        others = [r for r in REGIONS if r != region]
        change = _moved(chunk, [r for r in others if r not in used] or others, rng)
        if requested_regions(_apply(prompt.text, (change,))) != asked:  # otherwise the place belongs to an object
            edits.append((change,))
    return edits


def _word_colour(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    return _restyled(prompt, _ANY_COLOUR, lambda old: prompt.unused_colour(old, rng))


def _word_family(prompt: _Prompt, rng: random.Random) -> list[_Edit]:
    return _restyled(prompt, _FAMILY, lambda old: rng.choice([name for name in _FAMILIES if name != old]))


def _restyled(prompt: _Prompt, pattern: re.Pattern[str], other: Callable[[str], str]) -> list[_Edit]:
    """Replace each match of a pattern that says how words to draw look."""
    asked = requested_lettering(prompt.text)
    edits: list[_Edit] = []
    for chunk in prompt.chunks:
        for match in pattern.finditer(chunk.text):
            start, end = (chunk.start + at for at in match.span())
            change = _Change(start, end, other(match[0].casefold()))
            if requested_lettering(_apply(prompt.text, (change,))) != asked:  # otherwise it is about something else
                edits.append((change,))
    return edits


_EDITORS: dict[str, _Editor] = {
    "background_colour": _background_colour,
    "object_colour": _object_colour,
    "object_shape": _object_shape,
    "object_position": _object_position,
    "colours_swapped": _colours_swapped,
    "word_replaced": _word_replaced,
    "word_position": _word_position,
    "word_colour": _word_colour,
    "word_family": _word_family,
}


def _colours(phrase: Phrase) -> list[Phrase]:
    """Find the palette colours in a phrase that describe the word after them."""
    found = _COLOUR.finditer(phrase.text)
    return [Phrase(m[0], phrase.start + m.start(), phrase.start + m.end()) for m in found]


def _nouns(prompt: _Prompt) -> list[Phrase]:
    """Find the last known noun in each object."""
    known = _known_nouns(prompt.nouns)
    found = []
    for obj in prompt.objects:
        for match in list(known.finditer(obj.text))[-1:]:
            found.append(Phrase(match[0], obj.start + match.start(), obj.start + match.end()))
    return found


@lru_cache(maxsize=16)
def _known_nouns(nouns: tuple[str, ...]) -> re.Pattern[str]:
    forms = (*nouns, *map(plural_of, nouns))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, forms))})\b", re.IGNORECASE)


def _recoloured(prompt: _Prompt, colour: Phrase, rng: random.Random) -> _Change:
    return _Change(colour.start, colour.end, prompt.unused_colour(colour.text.casefold(), rng))


def _moved(chunk: Phrase, regions: Sequence[str], rng: random.Random) -> _Change:
    """Replace a place by another one, in one of the usual wordings."""
    region = rng.choice(regions)
    if region == "center":
        return _Change(chunk.start, chunk.end, rng.choice(_CENTERS))
    return _Change(chunk.start, chunk.end, f"{rng.choice(_PREPOSITIONS.get(region, ('at the',)))} {region}")


@lru_cache(maxsize=4096)
def _region(text: str) -> str | None:
    """Return the region that a chunk names; None if it is not a place."""
    found = requested_regions(f'"x" {text}')
    return found[0][1] if found else None


def _without(obj: Phrase, colour: Phrase) -> str:
    """Return an object's phrase without its colour and article."""
    text = obj.text[: colour.start - obj.start] + obj.text[colour.end - obj.start :]
    return re.sub(r"^(?:an?|the)\s+", "", text.casefold()).strip()


def _in_case_of(model: str, word: str) -> str:
    """Give ``word`` the case of ``model``: upper, title or lower."""
    if model.isupper():
        return word.upper()
    return word.title() if model[:1].isupper() else word.lower()


def _choose(first: Sequence[str], else_of: Sequence[str], rng: random.Random) -> str:
    return rng.choice(first or else_of)


def _apply(prompt: str, edit: Iterable[_Change]) -> str:
    """Make the changes, from the last to the first, and correct the articles before them."""
    for change in sorted(edit, key=lambda c: c.start, reverse=True):
        before = prompt[: change.start]
        article = _ARTICLE.search(before)
        if article:
            right = "an" if change.text[0].lower() in "aeiou" else "a"
            right = right.capitalize() if article[1][0].isupper() else right
            before = before[: article.start()] + right + article[2]
        prompt = before + change.text + prompt[change.end :]
    return prompt
