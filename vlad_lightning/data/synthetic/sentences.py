"""Captions in whole sentences, with articles and prepositions; each position follows the noun it belongs to.

The background phrase always ends in ``<colour> background`` or ``<colour> gradient background``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.data.synthetic.scene import TEXTURES, Background, Phrase
from vlad_lightning.data.synthetic.telling import RELATIONS, CaptionContent, NamedObject, pick, relation_between

TEMPLATES = (
    "{objects} {background}, {text}",
    "{objects} {background} {text}",
    "{medium} {text}, {objects} {background}",
    "{medium} {text} {background}, with {objects}",
    "{medium} {background} {text}, with {objects}",
    "{medium} {background} with {objects}, {text}",
    "{medium} of {objects} {background}, {text}",
    "{text} {background}, with {objects}",
    "{text}, {objects} {background}",
    "{objects} {background}",
    "{medium} of {objects} {background}",
    "{medium} {background} with {objects}",
    "{medium} with {objects} {background}",
    "{objects}, {text}",
    "{medium} of {objects}, {text}",
    "{medium} {text}, with {objects}",
    "{medium} with {objects} {text}",
    "{text}, with {objects}",
    "{medium} {text} {background}",
    "{medium} {background}, {text}",
    "{medium} {background} {text}",
    "{text} {background}",
    "{objects}",
    "{medium} of {objects}",
    "{medium} with {objects}",
    "{medium} {background}",
    "{medium} {text}",
    "{text}",
    "{medium}",  # only where it tells the background
)
MEDIA = ("a poster", "a picture", "a sign", "a card", "a banner", "a flyer", "a book cover", "an advertisement")
SAYING = ("saying", "that says", "that reads", "reading", "showing")
SAYING_TEXT = (
    "with the{colour} text",
    "and the{colour} {word}",
    "with the{colour} {word}",
    "with the{colour} lettering",
)
NAMING = ("the{colour} text", "the{colour} {word}", "the{colour} lettering")
CENTERS = ("in the center", "in the middle", "at the center", "in the centre")
PREPOSITIONS = {"left": ("on the", "at the"), "right": ("on the", "at the")}
COLOUR_ENDINGS = (" in {colour}", " in {colour} letters")

ADJECTIVES = (*TEXTURES, "banded")
SCENERY = ("sky", "ground", "frame", "with", "against")
SIZES = {"big": "big", "small": "small"}
CASES = {"upper": "capital", "lower": "lowercase"}
FAMILIES = {"sans": "sans-serif", "serif": "serif", "mono": "monospaced", "hand": "handwritten"}
NUMBERS = {2: "two", 3: "three", 4: "four"}

_STYLE_ODDS = 0.4
_PARTS = ("background", "objects", "text")


def sentence(content: CaptionContent, rng: np.random.Generator) -> str:
    """Write the content in one of many sentence forms."""
    parts = {
        name for name, part in zip(_PARTS, (content.background, content.objects, content.phrases), strict=True) if part
    }
    fitting = [t for t in TEMPLATES if {name for name in _PARTS if f"{{{name}}}" in t} == parts]
    if content.tells_ground:
        fitting = [t for t in fitting if "{medium}" in t]
    template = pick(rng, fitting)
    openings = NAMING if template.startswith("{text}") else (*SAYING, *SAYING_TEXT)
    return template.format(
        medium=with_article(content.medium) if content.medium else pick(rng, MEDIA),
        objects=objects_text(content.objects, rng),
        background=ground_of(content.background).text if content.background else "",
        text=_text(content, openings, rng) if content.phrases else "",
    )


@dataclass(frozen=True)
class Ground:
    """What a caption says of the background.

    Attributes:
        phrase: the noun phrase of the background as a whole.
        rest: what follows it.
        preposition: what precedes it.
    """

    phrase: str
    rest: str = ""
    preposition: str = "on"

    @property
    def text(self) -> str:
        """The whole: ``on a blue background with a white frame``, ``against a blue sky with green ground``."""
        return f"{self.preposition} {self.phrase}{self.rest}"


def ground_of(background: Background) -> Ground:
    """Write what a caption says of a background."""
    phrase = background_phrase(background)
    if background.kind == "landscape":
        return Ground(phrase, f" with {background.accent} ground", "against")
    if background.accent:
        return Ground(phrase, f" with {with_article(f'{background.accent} frame')}")
    return Ground(phrase)


def background_phrase(background: Background) -> str:
    """Write ``a striped green background``, ``an orange gradient background``, ``a blue sky``."""
    if background.kind == "landscape":
        return with_article(f"{background.told_colour} sky")
    before = f"{background.kind} " if background.kind in ADJECTIVES else ""
    after = " gradient" if background.kind == "gradient" else ""
    return with_article(f"{before}{background.told_colour}{after} background")


def with_article(text: str) -> str:
    """Write ``a red star``, ``an orange star``."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def object_phrase(named: NamedObject) -> str:
    """Write ``a red car`` or ``two red cars``."""
    return with_article(named.name) if named.count == 1 else f"{NUMBERS[named.count]} {named.name}"


def at_region(region: str, rng: np.random.Generator) -> str:
    """Write ``at the top left``, ``on the right``, ``in the middle``."""
    if region == "center":
        return pick(rng, CENTERS)
    return f"{pick(rng, PREPOSITIONS.get(region, ('at the',)))} {region}"


def objects_text(objects: Sequence[NamedObject], rng: np.random.Generator) -> str:
    """Write pairs with their relation, single objects with their region, some with neither; empty without objects."""
    parts = []
    remaining = list(objects)
    while remaining:
        first = remaining.pop(0)
        relation = relation_between(first, remaining[0]) if remaining else None
        if relation and rng.random() < 0.6:
            second = object_phrase(remaining.pop(0))
            parts.append(f"{object_phrase(first)} {pick(rng, RELATIONS[relation])} {second}")
        elif rng.random() < 0.9 and (region := first.region):
            parts.append(f"{object_phrase(first)} {at_region(region, rng)}")
        else:
            parts.append(object_phrase(first))
    return joined(parts)


def _text(content: CaptionContent, openings: Sequence[str], rng: np.random.Generator) -> str:
    """Write the drawn words after an opening, mostly with their positions and, half of the time, their colours."""
    phrases = content.phrases
    names_position = rng.random() < (0.95 if len(phrases) > 1 else 0.85) and content.tells_places
    names_colour = rng.random() < 0.5
    opening = pick(rng, openings)
    told = told_style(phrases, rng)
    looks = [letters_of(phrase, told, names_colour) for phrase in phrases]
    shared = len(set(looks)) == 1
    before = f" {looks[0]}" if looks[0] and shared and "{colour}" in opening else ""
    form = pick(rng, COLOUR_ENDINGS) if any(looks) and not before else ""
    parts = [
        phrase.text
        + (f" {at_region(phrase.region, rng)}" if names_position else "")
        + (ending_of(look, phrase, form) if form else "")
        for phrase, look in zip(phrases, looks, strict=True)
    ]
    several = len(phrases) > 1 or len(phrases[0].words) > 1
    return opening.format(colour=before, word="words" if several else "word") + " " + joined(parts)


def told_style(phrases: Sequence[Phrase], rng: np.random.Generator) -> frozenset[str]:
    """Choose which properties of the letters a caption tells, besides their colour; none in the plain world."""
    if phrases[0].style is None:
        return frozenset()
    return frozenset(name for name in ("size", "case", "family") if rng.random() < _STYLE_ODDS)


def letters_of(phrase: Phrase, told: frozenset[str], names_colour: bool) -> str:
    """Write ``red``, ``big red serif``, ``lowercase``; empty if there is nothing to tell."""
    words = [phrase.colour] if names_colour else []
    if phrase.style:
        size = SIZES.get(phrase.style.size) if "size" in told else None
        case = CASES.get(phrase.style.case) if "case" in told else None
        family = FAMILIES.get(phrase.style.family) if "family" in told else None
        words = [word for word in (size, *words, case, family) if word]
    return " ".join(words)


def ending_of(look: str, phrase: Phrase, form: str) -> str:
    """Write `` in red`` or `` in big red letters``: only a colour alone may do without the letters."""
    if not look:
        return ""
    return (form if look == phrase.colour else COLOUR_ENDINGS[-1]).format(colour=look)


def joined(parts: Sequence[str]) -> str:
    """Write ``a, b and c``; empty without parts."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
