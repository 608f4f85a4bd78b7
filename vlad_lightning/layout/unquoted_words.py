"""Words to draw of a prompt without quotes: ``a poster that says SALE``, ``a PIZZA NIGHT flyer``.

People leave the quotes away. In a prompt that has none, what stands behind a word that announces letters is to be
drawn, and else what is written in capitals. This is a rough rule, not a grammar of English: quotes are surer.
"""

# ruff: noqa: RUF001 (this file handles punctuation that looks alike)

from __future__ import annotations

import re

from vlad_lightning.layout.colours import rgb_named
from vlad_lightning.layout.prompt_parser import drawn_words

_ARTICLE = r"(?:an?|the|its|his|her|their)\b"
_NO_TEXT = r"(?!\s+(?-i:an?|the|its|his|her|their|it)\b)"  # a man reading a book; but: titled The Last Rose
_NO_NOUN = r"(?!\s+(?:of|on|in|at|for|to|from|under|over|it)\b)"  # letters on it, the name of a bank
_ANNOUNCING = re.compile(
    rf"""\b(?:
        (?:which|that|it)?\s*(?:says|say|saying|said|spells|spelling)
      | (?:that|which|to|sign|banner|poster|label)\s+reads? | reading{_NO_TEXT}
      | (?:titled|entitled|captioned|labell?ed|lettered|inscribed|called|named){_NO_TEXT}
      | (?:with|and|has|have|having|the|says|saying|reads|reading)\s+(?:the\s+)?
        (?:words?|text|letters|title|caption|slogan|headline|heading|label|inscription|message|phrase|name){_NO_NOUN}
        (?:\s+(?:is|are|says|saying|reads|reading))?
    )\b\s*:?\s+""",
    re.VERBOSE | re.IGNORECASE,
)
"""Ends where the words to draw begin."""

_ENDING = re.compile(
    rf"""\s*(?:
        [,;:()\[\]|…—–] | [.](?:\s+(?-i:[A-Z])|$) | \s-\s
      | \b(?:with|above|below|under|beneath|beside|behind|between|around|near|against|next\s+to|on\s+top\s+of)\b
      | \b(?:written|painted|printed|drawn|carved|engraved|hanging|centered|surrounded)\b
      | \b(?:at|to|along|towards?|from|into|onto|over|through|inside|across)\s+(?:{_ARTICLE}|top|bottom|left|right)
      | \b(?:on|in)\s+(?:{_ARTICLE}|top\b|bottom\b|left\b|right\b|cent(?:er|re)\b|front\b)
      | \b(?:on|in)\s+(?:[\w-]+\s+){{0,3}}?
        (?:letters?|lettering|text|fonts?|type|typeface|script|handwriting|style|capitals|background|backdrop|bg|colou?rs?)\b
      | \b(?:top|bottom|upper|lower)[\s-]+(?:left|right|cent(?:er|re))\b
      | \band\s+(?:{_ARTICLE}|one\b|two\b|three\b|four\b|some\b)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_IN_COLOUR = re.compile(r"\s*\b(?:in|on|and)\s+([^\W\d_]+)\b", re.IGNORECASE)  # `in red`, `on blue`, `and red hearts`
_CAPITAL_WORD = r"[A-Z0-9][A-Z0-9'’&!?.%$€£+/-]*(?![^\W_])"
_CAPITALS = re.compile(rf"(?<![^\W_]){_CAPITAL_WORD}(?:\s+(?:&|{_CAPITAL_WORD}))*")
_LEAST_CAPITALS = 4  # fewer are an abbreviation: TV, USA


def with_quotes(prompt: str) -> str:
    """Put quotes around the words that a prompt without quotes asks to draw.

    Args:
        prompt: any text; one with words in quotes is returned as it is.

    Returns:
        The prompt, unchanged if nothing in it asks for words.

    Example:
        >>> with_quotes("a poster that says grand opening in red letters, with a cake")
        'a poster that says "grand opening" in red letters, with a cake'
        >>> with_quotes("a PIZZA NIGHT flyer"), with_quotes("a TV on a table")
        ('a "PIZZA NIGHT" flyer', 'a TV on a table')
    """
    if drawn_words(prompt) or '"' in prompt:
        return prompt
    for announced in _ANNOUNCING.finditer(prompt):
        start = announced.end()
        end = _end_of_words(prompt, start)
        if end > start:
            return f'{prompt[:start]}"{prompt[start:end]}"{prompt[end:]}'
    if prompt.upper() == prompt:  # capitals mean nothing
        return prompt
    return _CAPITALS.sub(_quoted, prompt)


def _end_of_words(prompt: str, start: int) -> int:
    """Return where the words end that begin at ``start``."""
    end = len(prompt.rstrip(" ."))
    if ending := _ENDING.search(prompt, start):
        end = min(end, ending.start())
    for coloured in _IN_COLOUR.finditer(prompt, start):
        if rgb_named(coloured[1]) is not None:
            end = min(end, coloured.start())
            break
    capitals = _CAPITALS.match(prompt, start)
    if capitals and _is_long(capitals[0]) and prompt[capitals.end() : end].lstrip()[:1].islower():
        end = capitals.end()  # "SALE hanging from a tree", but "GRAND Opening"
    return max(start, end)


def _quoted(capitals: re.Match[str]) -> str:
    return f'"{capitals[0]}"' if _is_long(capitals[0]) else capitals[0]


def _is_long(capitals: str) -> bool:
    return sum(character.isupper() for character in capitals) >= _LEAST_CAPITALS
