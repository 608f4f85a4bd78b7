"""The coloured objects that a prompt asks for, their places, and requested objects that no detector here knows.

:class:`~vlad_lightning.layout.prompt_parser.PromptDecomposer` splits the prompt: words in quotes are never objects.
Only clear requests count, so a colour outside the palette or a place before its object is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlad_lightning.layout.colours import PALETTE, rgb_named
from vlad_lightning.layout.nouns import ALL_NOUNS, NOUNS, read_noun
from vlad_lightning.layout.prompt_parser import Phrase, PromptDecomposer

Relation = tuple[str, int]
"""``left``, ``right``, ``above`` or ``below``, and the index of the requested object that it refers to."""

_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "pair": 2, "both": 2}
MOST_COUNTED = 6
"""The most objects of one phrase."""

_COLOURS = {name: name for name in PALETTE} | {"grey": "gray"}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|\d+")
_LINKING = r"[\s,]*(?:(?:is|are|stands?|placed|drawn|shown)\s+)*"
_OWN_PLACE = re.compile(r"(?:at|in|on|near|to|along|towards?)\b", re.IGNORECASE)  # no other phrase starts with these
_BARE_PLACE = re.compile(
    r"(?:(?:top|bottom|upper|lower|left|right|cent(?:er|re)|middle)(?:[\s-]+|$))+(?:(?:corner|side|edge)$)?",
    re.IGNORECASE,
)
_RELATION = re.compile(
    rf"{_LINKING}(?:(?:to|on|at)\s+the\s+)?(?:(?P<side>left|right)\s+of|(?P<word>above|over|below|under|beneath))\s*(?:an?|the)?\s*",
    re.IGNORECASE,
)
_RELATIONS = {"above": "above", "over": "above", "below": "below", "under": "below", "beneath": "below"}
_IN_COLOUR = re.compile(r"\s+in\s+", re.IGNORECASE)
# The picture itself, its background, its frame and its letters: requested, but not objects.
_NO_OBJECT = re.compile(
    r"\b(?:background|backdrop|bg|gradient|sky|ground|frame|border|poster|pic|picture|image|photo|sign|card|banner|flyer|cover|advertisement|ad"
    r"|logo|label|page|brochure|leaflet|placard|postcard|sticker|invitation|billboard|ticket|menu|notice|print"
    r"|text|words?|letters?|lettering|font|type|title|caption|headline)\b",
    re.IGNORECASE,
)
_TAILS = frozenset(("please", "shape", "shapes"))  # a star shape
_FILLER = re.compile(
    r"\b(?:an?|the|this|that|some|one|with|small|big|large|tiny|little|bright|dark|light)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class RequestedObject:
    """An object that a prompt asks for.

    Attributes:
        name: one of :data:`~vlad_lightning.layout.nouns.NOUNS`.
        colour: a name of the palette, or None if the prompt names none of these.
        region: one of :data:`~vlad_lightning.layout.prompt_parser.REGIONS`, or None if the prompt names none.
        relation: its position relative to another requested object, or None.
    """

    name: str
    colour: str | None = None
    region: str | None = None
    relation: Relation | None = None

    @property
    def placed(self) -> bool:
        """Whether the prompt gives its place."""
        return self.region is not None or self.relation is not None


def requested_objects(prompt: str, nouns: Sequence[str] = NOUNS) -> tuple[RequestedObject, ...]:
    """Return the known objects that a prompt asks for, in the prompt's order.

    ``two red stars`` are two objects, and so are ``red stars``. A place right after an object belongs to it, and in a
    plural to each of the objects.

    Args:
        prompt: any text.
        nouns: the nouns that are known, such as a detector's.

    Example:
        >>> requested_objects('a red star above a ring, with "HEART" at the top')
        (RequestedObject(name='star', colour='red', region=None, relation=('above', 1)), RequestedObject(name='ring', \
colour=None, region=None, relation=None))
    """
    phrases = PromptDecomposer()(prompt).objects
    heads = [_read(phrase.text, nouns) for phrase in phrases]
    first = [sum(head.count for head in heads[:i] if head) for i in range(len(heads))]  # index of its first object
    found: list[RequestedObject] = []
    for i, head in enumerate(heads):
        if head is None:
            continue
        colour, region, relation = _said_after(prompt, phrases, heads, first, i)
        found += [RequestedObject(head.name, head.colour or colour, region, relation)] * head.count
    return tuple(found)


@lru_cache(maxsize=65_536)
def count_of(phrase: str) -> int:
    """Return how many objects a phrase asks for, at least 1 and at most :data:`MOST_COUNTED`.

    Example:
        >>> count_of("three red cars"), count_of("red cars"), count_of("a giraffe")
        (3, 2, 1)
    """
    return max(1, len(requested_objects(phrase, ALL_NOUNS)))


def unknown_objects(prompt: str, nouns: Sequence[str] = NOUNS) -> tuple[str, ...]:
    """Return the phrases of a prompt that seem to ask for an object that is not known.

    Places, the background, the picture itself, its letters and bare colours are left out. This is a rough count to
    report beside the results, not a grammar of English.

    Args:
        prompt: any text.
        nouns: the nouns that are known, such as a detector's.

    Example:
        >>> unknown_objects("a photo of a giraffe under a red star, on a blue background")
        ('a giraffe',)
    """
    unknown = []
    for phrase in PromptDecomposer()(prompt).objects:
        said = _FILLER.sub("", phrase.text)
        named = [word for word in _WORD.findall(said) if rgb_named(word) is None]
        if not named or _NO_OBJECT.search(phrase.text) or _region(phrase.text) is not None:
            continue
        if _read(phrase.text, nouns) is None:
            unknown.append(phrase.text)
    return tuple(unknown)


def unlearned_objects(prompt: str, nouns: Sequence[str]) -> tuple[str, ...]:
    """Return the phrases of a prompt for objects that a model has not learned to draw.

    Args:
        prompt: any text.
        nouns: the nouns of all objects that its training data show.

    Returns:
        The :func:`unknown_objects` without those that mention an object that was shown ("a red heart underneath").
    """
    return tuple(phrase for phrase in unknown_objects(prompt, nouns) if not mentions(phrase, nouns))


def mentions(phrase: str, nouns: Sequence[str] = NOUNS) -> bool:
    """Return whether a known noun is among the words of a phrase, also where it is not its last.

    Example:
        >>> mentions("a red heart underneath"), mentions("two cats"), mentions("a giraffe")
        (True, True, False)
    """
    return any(read_noun(word.casefold(), nouns) is not None for word in _WORD.findall(phrase))


@dataclass(frozen=True)
class _Head:
    name: str
    colour: str | None
    count: int


def _read(text: str, nouns: Sequence[str]) -> _Head | None:
    """Read the noun that is a phrase's last word, its colour and its count; return None for any other phrase."""
    words = [word.casefold() for word in _WORD.findall(text)]
    while words and words[-1] in _TAILS:
        words.pop()
    if not words or _NO_OBJECT.search(text):
        return None
    found = read_noun(words[-1], nouns)
    if found is None:
        return None
    colours = [_COLOURS[word] for word in words[:-1] if word in _COLOURS]
    counts = [_COUNTS.get(word) or int(word) for word in words[:-1] if word in _COUNTS or word.isdecimal()]
    name, plural = found
    if plural is None:  # two fish, a fish
        plural = bool(counts)
    count = min(counts[0], MOST_COUNTED) if counts and plural else 1 + plural
    return _Head(name, colours[-1] if colours else None, max(count, 1))


def _said_after(
    prompt: str, phrases: tuple[Phrase, ...], heads: list[_Head | None], first: list[int], i: int
) -> tuple[str | None, str | None, Relation | None]:
    """Return the colour, region and relation that the prompt gives right after its phrase ``i``."""
    colour: str | None = None
    end = phrases[i].end
    for j in range(i + 1, len(phrases)):
        between = prompt[end : phrases[j].start]
        named = _COLOURS.get(phrases[j].text.casefold())
        if named and _IN_COLOUR.fullmatch(between) and colour is None:  # a star in red, at the top
            colour, end = named, phrases[j].end
            continue
        if re.fullmatch(_LINKING, f"{phrases[j].text} ", re.IGNORECASE):  # "placed", before a place
            continue
        region = _region(phrases[j].text)
        if region and re.fullmatch(_LINKING, between, re.IGNORECASE):
            return colour, region, None
        relation = _RELATION.fullmatch(between)
        if relation and heads[j]:
            side = relation["side"] or _RELATIONS[relation["word"].lower()]
            return colour, None, (side.lower(), first[j])
        break
    return colour, None, None


def _region(text: str) -> str | None:
    """Return which of REGIONS a phrase names, as in ``at the upper left`` or ``top-right corner``; None if none."""
    if not (_OWN_PLACE.match(text) or _BARE_PLACE.fullmatch(text)):
        return None
    rows = text.casefold().replace("upper", "top").replace("lower", "bottom")
    return " ".join(side for side in ("top", "bottom", "left", "right") if side in rows) or "center"
