"""The colour that a phrase for an object or a background names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from vlad_lightning.layout.colours import RGB, rgb_named
from vlad_lightning.layout.prompt_parser import Phrase

_WORD = re.compile(r"[^\W\d_]+|#[0-9a-fA-F]{6}\b")
_IN = re.compile(r"\s+in\s+", re.IGNORECASE)
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:an?|the)\b", re.IGNORECASE)
_PATTERNED = frozenset(("sky", "skies"))


def phrase_colours(prompt: str, phrases: Sequence[Phrase]) -> tuple[RGB | None, ...]:
    """Return the colour that each phrase of a prompt names, before its noun or after it with ``in``.

    A colour has one of the names of :func:`~vlad_lightning.layout.colours.rgb_named`. The last word of a phrase is its
    noun and no colour, unless the phrase is a colour alone, as in ``on navy``: ``an orange`` is a fruit. Several
    colours (``a red and white pole``) are a pattern, and so is a sky, which has ground below it: none is named.

    Args:
        prompt: any text.
        phrases: its phrases, in its order.

    Returns:
        For each phrase sRGB bytes, or None.

    Example:
        >>> from vlad_lightning.layout.prompt_parser import PromptDecomposer
        >>> prompt = "a gold star above a dark red car, a cat in blue and an orange"
        >>> phrase_colours(prompt, PromptDecomposer()(prompt).objects)
        ((255, 215, 0), (139, 0, 0), (35, 80, 205), None, None)
    """
    own = [_own_colour(phrase.text) for phrase in phrases]
    for i, (phrase, after) in enumerate(pairwise(phrases)):
        between = prompt[phrase.end : after.start]
        if own[i] is None and _IN.fullmatch(between):
            own[i] = rgb_named(after.text)
        # not "in red and a blue star"
        if _AND.fullmatch(between) and _ends_in_colour(phrase.text) and not _ARTICLE.match(after.text):
            own[i + 1] = None
    return tuple(own)


def says_colour(phrase: str) -> bool:
    """Return whether a colour's name is among the words of a phrase, alone or with its neighbour (``dark red``).

    Example:
        >>> says_colour("a blue sky"), says_colour("a red and white pole"), says_colour("merry christmas card")
        (True, True, False)
    """
    words = _WORD.findall(phrase)
    return any(rgb_named(name) is not None for name in (*words, *map("".join, pairwise(words))))


def _ends_in_colour(phrase: str) -> bool:
    words = _WORD.findall(phrase)
    return bool(words) and rgb_named(words[-1]) is not None


@lru_cache(maxsize=65_536)
def _own_colour(phrase: str) -> RGB | None:
    words = _WORD.findall(phrase)
    alone = rgb_named("".join(words))
    if alone is not None:
        return alone
    if words and words[-1].casefold() in _PATTERNED:
        return None
    words = words[:-1]
    found = []
    while words:
        # two words together first: "dark red" is another colour than "red"
        taken = next((n for n in (2, 1) if len(words) >= n and rgb_named("".join(words[-n:]))), 0)
        if taken:
            found.append(rgb_named("".join(words[-taken:])))
        words = words[: -taken or -1]
    return found[0] if len(found) == 1 else None
