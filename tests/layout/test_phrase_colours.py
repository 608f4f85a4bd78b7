from __future__ import annotations

import pytest

from vlad_lightning.layout.colours import PALETTE, rgb_named
from vlad_lightning.layout.phrase_colours import phrase_colours
from vlad_lightning.layout.prompt_parser import PromptDecomposer


def named(prompt: str) -> dict[str, tuple[int, int, int] | None]:
    phrases = PromptDecomposer()(prompt).objects
    return dict(zip((phrase.text for phrase in phrases), phrase_colours(prompt, phrases), strict=True))


@pytest.mark.parametrize("colour", [*PALETTE, "grey", "gold", "navy", "dark red", "light blue", "Dark Green"])
def test_a_colour_before_the_noun(colour: str) -> None:
    article = "a big "
    assert named(f"{article}{colour} star, and a tree") == {
        f"{article}{colour} star": rgb_named(colour),
        "a tree": None,
    }
    assert rgb_named(colour) is not None


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [
        ("a cat in blue", "blue"),
        ("a cat in dark red", "dark red"),
        ("a red cat in blue", "red"),  # its own word wins
        ("a cat, blue", None),
        ("navy", "navy"),  # `"SALE" on navy`
        ("Dark Red", "dark red"),
        ("a striped teal background", "teal"),
        ("blue bg", "blue"),
        ("a blue sky", None),  # with ground below it
        ("an orange", None),  # a fruit
        ("a ripe orange", None),
        ("a red", None),
        ("a dark cat", None),
        ("a red-nosed reindeer", "red"),
        ("a red, white and blue flag", None),
        ("", None),
    ],
)
def test_the_first_phrase(prompt: str, colour: str | None) -> None:
    colours = list(named(prompt).values())
    assert (colours[0] if colours else None) == (rgb_named(colour) if colour else None)


def test_several_colours_are_a_pattern() -> None:
    assert set(named("a red and white pole").values()) == {None}
    assert set(named("a black white cat").values()) == {None}
    assert named("'SALE' in red and a blue star")["a blue star"] == rgb_named("blue")
    assert named("a red star and white clouds") == {"a red star": rgb_named("red"), "white clouds": rgb_named("white")}


def test_phrases_without_letters_are_passed_over() -> None:
    assert named("2 and red stars") == {"2": None, "red stars": rgb_named("red")}
    assert named("100% and 7") == {"100%": None, "7": None}


def test_words_to_draw_name_no_colour() -> None:
    assert named("a 'RED' sign and a star") == {"sign": None, "a star": None}
