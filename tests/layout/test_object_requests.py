from __future__ import annotations

import pytest

from vlad_lightning.data.synthetic import scene
from vlad_lightning.layout.object_requests import SHAPES, RequestedObject, requested_objects, unknown_objects

Wanted = RequestedObject


def test_the_shapes_equal_those_of_the_posters() -> None:
    assert set(SHAPES) == set(scene.SHAPES)


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
        ("a star chart and a heart-shaped box", []),
        ("a poster with 'RED STAR' at the top", []),  # words to draw
        ('a blue diamond, with "SALE" at the top', [Wanted("diamond", "blue")]),  # the place belongs to the word
        ("on a square background", []),
    ],
)
def test_requests_are_read_from_a_prompt(prompt: str, expected: list[RequestedObject]) -> None:
    assert list(requested_objects(prompt)) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a poster of a dog next to a pink square on a striped green background that says 'CAT'", ("a dog",)),
        ("a heart-shaped box at the top", ("a heart-shaped box",)),
        ('a red star, "SALE" in big white letters at the top left, blue', ()),
    ],
)
def test_objects_unknown_to_the_detector_are_counted(prompt: str, expected: tuple[str, ...]) -> None:
    assert unknown_objects(prompt) == expected
