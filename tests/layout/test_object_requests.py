from __future__ import annotations

import pytest

from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.object_requests import RequestedObject, requested_objects, unknown_objects, unlearned_objects

Wanted = RequestedObject


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a star", [Wanted("star")]),
        ("a red star on the right", [Wanted("star", "red", "right")]),
        ("A BIG RED STAR AT THE UPPER LEFT", [Wanted("star", "red", "top left")]),
        ("red star, blue background", [Wanted("star", "red")]),
        ("red star top right, blue bg", [Wanted("star", "red", "top right")]),
        ("a red star, top right", [Wanted("star", "red", "top right")]),
        ("a star in red in the middle", [Wanted("star", "red", "center")]),
        ("a grey ring is placed at the bottom", [Wanted("ring", "gray", "bottom")]),
        ("a violet ring", [Wanted("ring")]),  # not a palette colour: no colour
        ("a dark blue star shape please", [Wanted("star", "blue")]),
        ("a blue ring above a green heart", [Wanted("ring", "blue", None, ("above", 1)), Wanted("heart", "green")]),
        (
            "a star is to the left of the red ring in the center",
            [Wanted("star", None, None, ("left", 1)), Wanted("ring", "red", "center")],
        ),
        (
            "two red stars at the top and a heart under a circle",
            [
                Wanted("star", "red", "top"),
                Wanted("star", "red", "top"),
                Wanted("heart", None, None, ("below", 3)),
                Wanted("circle"),
            ],
        ),
        ("hearts", [Wanted("heart"), Wanted("heart")]),
        ("100 hearts", [Wanted("heart")] * 6),
        ("a green star over a table", [Wanted("star", "green")]),  # not a known object
        ("a green star over 'RING'", [Wanted("star", "green")]),  # not an object at all
        ("a star chart and a heart-shaped tray", []),
        ("a poster with 'RED STAR' at the top", []),  # words to draw
        ('a blue diamond, with "SALE" at the top', [Wanted("diamond", "blue")]),  # the place belongs to the word
        ("on a square background", []),
        ("two red cars at the top", [Wanted("car", "red", "top")] * 2),
        ("a bus left of three teeth", [Wanted("bus", None, None, ("left", 1)), *[Wanted("tooth")] * 3]),
        ("two blue fish and a fish", [*[Wanted("fish", "blue")] * 2, Wanted("fish")]),
        ("a green star over a cat", [Wanted("star", "green", None, ("above", 1)), Wanted("cat")]),
    ],
)
def test_requests_are_read_from_a_prompt(prompt: str, expected: list[RequestedObject]) -> None:
    assert list(requested_objects(prompt)) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a poster of a giraffe next to a pink square on a striped green background that says 'CAT'", ("a giraffe",)),
        ("a heart-shaped tray at the top", ("a heart-shaped tray",)),
        ('a red star, "SALE" in big white letters at the top left, blue', ()),
        ("a card with two rings, white and gold, or navy", ()),  # bare colours, also of CSS
    ],
)
def test_objects_unknown_to_the_detector_are_counted(prompt: str, expected: tuple[str, ...]) -> None:
    assert unknown_objects(prompt) == expected


def test_unlearned_objects_are_those_that_mention_nothing_that_was_learned() -> None:
    prompt = "a navy travel brochure with a giraffe above a red heart underneath, a cat and a blue ticket"
    assert unlearned_objects(prompt, SHAPES) == ("a giraffe", "a cat")
    assert unlearned_objects(prompt, (*SHAPES, "cat")) == ("a giraffe",)


def test_a_detector_of_shapes_knows_no_things() -> None:
    prompt = "a red star above a black cat"
    assert requested_objects(prompt, SHAPES) == (Wanted("star", "red"),)
    assert unknown_objects(prompt, SHAPES) == ("a black cat",)
    assert unknown_objects(prompt) == ()
