"""Words to draw of prompts without quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.unquoted_words import with_quotes


@pytest.mark.parametrize(
    "expected",
    [
        'a poster that says "SALE"',
        'a poster that says "sale".',
        'a sign that says "keep calm and carry on", blue',
        'a birthday cake with the words "happy birthday" on top',
        'a sign that says "NO DOGS" in red',
        'a banner reading "WELCOME HOME" above a red door',
        'a t-shirt with text saying "BE KIND" and a heart',
        'the words "love and peace" in gold',
        'a book titled "The Last Rose" with a rose',
        'a coffee brand called "Moka"',
        'movie poster, title: "NIGHT MOON"',
        'a neon sign that says "OPEN 24/7" on a brick wall',
        'a sign with the text "EXIT" and two arrows',
        'a street sign that says "elm st" in white on green',
        'a card that reads "drift lamp" on a green background',
        'a sticker saying "grand opening" top left',
        'a label that says "No. 5" at the bottom',
        'a sticker that says "I\'m a teapot"',
        'a "PIZZA NIGHT" flyer',
        '"SALE 50% OFF" poster',
        'a sign that says "OPEN" swinging from a tree',
        'a banner that says "GRAND Opening", on blue',
        'graffiti spelling "hope" in blue on a gray wall',
    ],
)
def test_words_that_are_announced_or_in_capitals_get_quotes(expected: str) -> None:
    prompt = expected.replace('"', "")
    assert with_quotes(prompt) == expected
    assert with_quotes(expected) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a red car above a blue star",
        "a man reading a book",
        "a wall with letters on it",
        "a logo with the name of a bank",
        "a poster with text at the top",
        "cover of a book with the title in red",
        "a picture of a red car, without words",
        "a poster with words",
        "a sign that reads",
        "a TV on a table in the USA, 4K",
        "A RED CAR",  # capitals mean nothing where there is nothing else
        "KEEP CALM",
        "a cat that says 'MEOW' on a sign that says OPEN",  # it has quotes
        'a 5" pipe that says HELLO',  # a mark that would pair with a new one
    ],
)
def test_other_prompts_stay_as_they_are(prompt: str) -> None:
    assert with_quotes(prompt) == prompt


PARTS = ["says", "the words", "SALE", "a red car", "in", "on", ",", ".", ":", '"', "'", "5", "top left", "é", "and"]


@given(st.lists(st.sampled_from(PARTS)), st.text(max_size=8))
def test_only_quotes_are_added_and_only_once(words: list[str], tail: str) -> None:
    prompt = f"{' '.join(words)} {tail}"
    read = with_quotes(prompt)
    assert with_quotes(read) == read
    if read != prompt:
        assert read.replace('"', "") == prompt
        assert drawn_words(read)
        assert not drawn_words(prompt)


def test_a_hostile_prompt_is_read_quickly() -> None:
    """In linear time: each of these would take minutes where a pattern tries all ways to match."""
    for part in ("says ", "in red and ", "SALE ", "the words in ", "on a b ", "A" * 50 + " ", "word-"):
        with_quotes(part * (4000 // len(part)))
