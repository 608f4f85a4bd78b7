"""Colour and font of the words to draw, as a prompt gives them: ``the word "SALE" in red serif letters``.

Only clear requests count: adjectives right before the noun that announces the words (``the big red words "BIG SALE"``),
or after ``in`` right behind the quotes or the place of the words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from vlad_lightning.layout.colours import rgb_named
from vlad_lightning.layout.fonts import missing_characters
from vlad_lightning.layout.prompt_parser import PromptDecomposer, bare_word

if TYPE_CHECKING:  # it loads torch, and posters are drawn without
    from vlad_lightning.types import Layout

_FAMILIES = {
    "sans-serif": "sans",
    "sans": "sans",
    "serif": "serif",
    "monospaced": "mono",
    "monospace": "mono",
    "mono": "mono",
    "typewriter": "mono",
    "handwritten": "hand",
    "hand-written": "hand",
    "handwriting": "hand",
    "cursive": "hand",
}
_OTHER_LOOKS = frozenset(
    (
        "big",
        "large",
        "huge",
        "small",
        "tiny",
        "bold",
        "italic",
        "bright",
        "capital",
        "uppercase",
        "lowercase",
        "block",
        "and",
    )
)
_NOUN = r"(?:words?|text|letters?|lettering|title|headline|caption|slogan|phrase|name|number|writing|font|type|script)"
_SIDE = r"(?:top|bottom|upper|lower|left|right|cent(?:er|re)|middle)"
_PLACE = rf"(?:(?:(?:at|on|in|to|near)\s+)?(?:the\s+)?{_SIDE}(?:[\s-]+{_SIDE})?(?:\s+(?:corner|side|edge))?)"
_LOOKS = r"(?P<looks>(?:[^\W\d_]+(?:-[^\W\d_]+)?\s+){0,4}[^\W\d_]+(?:-[^\W\d_]+)?)"
_AFTER = re.compile(
    rf"\W*(?:{_PLACE}\s*,?\s*)?(?:(?:written|drawn|painted|printed)\s+)?in\s+(?:an?\s+)?{_LOOKS}", re.IGNORECASE
)
_IS_NOUN = re.compile(_NOUN, re.IGNORECASE)
_BEFORE = re.compile(rf"{_LOOKS}\s+{_NOUN}\W*$", re.IGNORECASE)
_WRITTEN_IN = re.compile(rf"\b(?:written|drawn|painted|printed)\s+in\s+{_LOOKS}\W*$", re.IGNORECASE)
_JOINED = re.compile(rf"\W*{_PLACE}?\W*(?:and)?\W*", re.IGNORECASE)
_THEN_NOUN = re.compile(rf"\s+{_NOUN}\b", re.IGNORECASE)
_GOES_ON = re.compile(  # with a noun that is not about letters: `in red background`
    r"\s+(?!(?:and|with|on|at|in|over|against|above|below|under|beside|near|that|to|of)\b)\w", re.IGNORECASE
)


@dataclass(frozen=True)
class Lettering:
    """How a word is to look.

    Attributes:
        colour: a name that :func:`~vlad_lightning.layout.colours.rgb_named` knows; None if the prompt gives none.
        family: one of :data:`~vlad_lightning.layout.fonts.FAMILIES`; None if the prompt gives none.
    """

    colour: str | None = None
    family: str | None = None

    def __bool__(self) -> bool:
        return self != _UNSAID


_UNSAID = Lettering()


def requested_lettering(prompt: str) -> tuple[Lettering, ...]:
    """Return how each word to draw is to look, in the prompt's order.

    What is said before the first of several quoted phrases that only ``and`` or places separate holds for all of them.

    Example:
        >>> requested_lettering("a sign with the word 'SALE' in red serif letters, on a blue background")
        (Lettering(colour='red', family='serif'),)
        >>> requested_lettering("the white words 'BIG SALE' at the top and 'NOW' in the middle")[2]
        Lettering(colour='white', family=None)
    """
    return _requests(prompt)[0]


def lettering_spans(prompt: str) -> tuple[tuple[int, int], ...]:
    """Return where a prompt says behind its words how they are to look: a chunk in there is no object.

    Returns:
        Start and end of each such stretch, from the last of the words on.

    Example:
        >>> prompt = "'SALE' in red, a blue car"
        >>> [prompt[start:end] for start, end in lettering_spans(prompt)]
        ["' in red"]
    """
    return _requests(prompt)[1]


@lru_cache(maxsize=256)  # asked for by the layout, the glyphs and the colours of the same prompt
def _requests(prompt: str) -> tuple[tuple[Lettering, ...], tuple[tuple[int, int], ...]]:
    """Return the look of each word, and where it is said behind the words."""
    parts = PromptDecomposer()(prompt)
    spans = []
    for _, words in groupby(zip(parts.groups, parts.words, strict=True), key=lambda pair: pair[0]):
        inside = [word for _, word in words]
        spans.append((inside[0].start, inside[-1].end, len(inside)))
    found: list[Lettering] = []
    behind: list[tuple[int, int]] = []
    shared, read = _UNSAID, 0  # what holds for the next span as well, and up to where the prompt was read
    for i, (start, stop, count) in enumerate(spans):
        before = prompt[read:start]
        said = _read_before(before)
        if said or not _JOINED.fullmatch(before):
            shared = said
        following = spans[i + 1][0] if i + 1 < len(spans) else len(prompt)
        own, length = _read_after(prompt[stop:following])
        found += [own or shared] * count
        read = stop + length
        if length:
            behind.append((stop, read))
    return tuple(found), tuple(behind)


def lettering_of(words: Sequence[str], prompt: str) -> tuple[Lettering, ...]:
    """Return what a prompt asks for, for each of some words, matched as :func:`with_lettering` says."""
    asked = requested_lettering(prompt)
    if not any(asked) or not words:
        return (_UNSAID,) * len(words)
    waiting: dict[str, list[Lettering]] = defaultdict(list)
    for phrase, said in zip(PromptDecomposer()(prompt).words, asked, strict=True):
        waiting[bare_word(phrase.text)].append(said)
    free = (waiting[bare_word(word)] for word in words)
    return tuple(said.pop(0) if said else _UNSAID for said in free)


def with_lettering(layout: Layout, prompt: str) -> Layout:
    """Give the words of a layout the colours and fonts that the prompt asks for; what the layout has itself stays.

    Args:
        layout: its words match the prompt's regardless of case and surrounding punctuation, the nth occurrence of a
            word the nth occurrence.
        prompt: its words to draw are in quotes.
    """
    asked = lettering_of(layout.words, prompt)
    if not any(asked):
        return layout
    none = (None,) * len(layout)
    rows = []
    own = zip(layout.words, layout.colours or none, layout.fonts or none, strict=True)
    for (word, colour, font), said in zip(own, asked, strict=True):
        family = said.family if said.family and not missing_characters(word, said.family) else None
        rows.append((colour or said.colour, font or family))
    colours, fonts = (tuple(column) for column in zip(*rows, strict=True))
    return replace(layout, colours=colours if any(colours) else (), fonts=fonts if any(fonts) else ())


def _read_before(text: str) -> Lettering:
    """Read what precedes the quotes: ``with the big red serif words``, ``written in red:``."""
    likely = (_BEFORE, _WRITTEN_IN) if _IS_NOUN.fullmatch(_last_word(text)) else (_WRITTEN_IN,)
    for pattern in likely:  # _BEFORE searches long where it finds nothing
        if found := pattern.search(text):
            looks = found["looks"].split()
            first = next((i + 1 for i in reversed(range(len(looks))) if not _is_look(looks, i)), 0)
            if said := _read(looks[first:]):
                return said
    return _UNSAID


def _last_word(text: str) -> str:
    """Return the letters at the end of a text, without what follows them and is neither a letter nor a digit."""
    end = len(text)
    while end and not (text[end - 1].isalnum() or text[end - 1] == "_"):
        end -= 1
    start = end
    while start and text[start - 1].isalpha():
        start -= 1
    return text[start:end]


def _read_after(text: str) -> tuple[Lettering, int]:
    """Read what follows the quotes and the place, ``in red``, ``in small red serif letters``, and the length of it."""
    found = _AFTER.match(text)
    if found is None:
        return _UNSAID, 0
    looks = list(re.finditer(r"\S+", found["looks"]))
    words = [look[0] for look in looks]
    count = next((i for i in range(len(words)) if not _is_look(words, i)), len(words))
    while count and words[count - 1].casefold() == "and":  # `in red and a blue star`
        count -= 1
    end = found.start("looks") + looks[count - 1].end() if count else 0
    noun = _THEN_NOUN.match(text, end)
    if not count or (noun is None and _GOES_ON.match(text, end)):
        return _UNSAID, 0
    return _read(words[:count]), noun.end() if noun else end


def _is_look(words: list[str], i: int) -> bool:
    """Return whether a word belongs to a description of letters; ``dark`` does before a colour."""
    word = words[i].casefold()
    if word in _FAMILIES or word in _OTHER_LOOKS or rgb_named(word):
        return True
    return i + 1 < len(words) and rgb_named(f"{word} {words[i + 1]}") is not None


def _read(looks: list[str]) -> Lettering:
    """Read the colour and the family among the words of a description."""
    colour = family = None
    for i, word in enumerate(look.casefold() for look in looks):
        two = f"{looks[i - 1].casefold()} {word}" if i else ""
        if rgb_named(word):
            colour = two if two and rgb_named(two) else word
        family = _FAMILIES.get(word, family)
    return Lettering(colour, family)
