"""The words that posters show, and those of them that are kept for evaluation."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np

HELD_OUT_SHARE = 10
"""One string in this many is held out."""

MAX_LETTERS = 8


def is_held_out(word: str) -> bool:
    """Return whether a string is kept for evaluation: a stable hash picks one in ten of all strings, ignoring case.

    Example:
        >>> is_held_out("HELLO") == is_held_out("hello")
        True
    """
    digest = hashlib.sha256(word.casefold().encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


@cache
def dictionary(held_out: bool, without: frozenset[str]) -> tuple[str, ...]:
    """Return the shipped English words of one split, of 2 to 8 lower-case letters, ``without`` some."""
    text = resources.files("vlad_lightning.data.synthetic").joinpath("words.txt").read_text(encoding="ascii")
    return tuple(w for w in text.split() if w not in without and is_held_out(w) == held_out)


def draw_word(rng: np.random.Generator, held_out: bool, without: frozenset[str]) -> str:
    """Draw a random word: mostly from the dictionary, else random letters (2 to 8) or digits (2 to 6).

    Args:
        rng: picks the word.
        held_out: whether it is one of those kept for evaluation.
        without: lower-case words that are never drawn: those of the caption grammar.

    Returns:
        A word of the requested split in upper, title or lower case.
    """
    kind = rng.random()
    if kind < 0.6:
        words = dictionary(held_out, without)
        return _cased(words[rng.integers(len(words))], rng)
    while True:
        word = _letters(rng) if kind < 0.85 else _characters(rng, string.digits, 6)
        if is_held_out(word) == held_out and word.casefold() not in without:
            return word


def in_one_case(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the words all in upper, all in title or all in lower case."""
    case = rng.random()
    return [_in_case(word, case) for word in words]


def _letters(rng: np.random.Generator) -> str:
    return _cased(_characters(rng, string.ascii_lowercase, MAX_LETTERS), rng)


def _characters(rng: np.random.Generator, alphabet: str, longest: int) -> str:
    picks = rng.integers(len(alphabet), size=rng.integers(2, longest + 1))
    return "".join(alphabet[i] for i in picks)


def _cased(word: str, rng: np.random.Generator) -> str:
    return _in_case(word, rng.random())


def _in_case(word: str, case: float) -> str:
    if case < 0.5:
        return word.upper()
    return word.title() if case < 0.75 else word.lower()
