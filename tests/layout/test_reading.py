import numpy as np
import pytest

from vlad_lightning.layout.reading import Reading


def quad(left, top, width, height, angle=0.0):
    corners = np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])
    cos, sin = np.cos(angle), np.sin(angle)
    return (corners - 0.5) @ np.array([[cos, sin], [-sin, cos]]) + 0.5


def reading(*quads):
    return Reading([str(i) for i in range(len(quads))], quads)


def followers(found, count):
    return {(i, j) for i in range(count) for j in range(count) if found.continues(i, j)}


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.3, 1.2])
def test_a_word_is_followed_by_its_neighbour_on_the_line(angle):
    line = [quad(0.1, 0.4, 0.2, 0.1, angle), quad(0.35, 0.42, 0.1, 0.07, angle), quad(0.5, 0.4, 0.3, 0.12, angle)]
    assert followers(reading(*line), 3) == {(0, 1), (1, 2)}
    assert followers(reading(*line[::-1]), 3) == {(2, 1), (1, 0)}


@pytest.mark.parametrize("left", [0.1, 0.3, 0.5])
def test_the_last_word_of_a_line_is_followed_by_the_first_of_the_next(left):
    first, second = [quad(0.1, 0.2, 0.3, 0.1), quad(0.45, 0.2, 0.3, 0.1)], quad(left, 0.34, 0.25, 0.1)
    assert followers(reading(*first, second), 3) == {(0, 1), (1, 2)}
    third = quad(0.2, 0.48, 0.4, 0.1)
    assert followers(reading(*first, second, third), 4) == {(0, 1), (1, 2), (2, 3)}


@pytest.mark.parametrize(
    "other",
    [
        quad(0.6, 0.2, 0.2, 0.1),  # far along the line
        quad(0.1, 0.5, 0.2, 0.1),  # far below
        quad(0.6, 0.34, 0.2, 0.1),  # below and far beside
        quad(0.32, 0.12, 0.3, 0.3),  # beside, in much larger letters
        quad(0.1, 0.05, 0.2, 0.1),  # above
    ],
)
def test_words_apart_are_not_joined(other):
    assert not reading(quad(0.1, 0.2, 0.2, 0.1), other).continues(0, 1)


def test_without_boxes_the_order_decides():
    assert followers(Reading(["a", "b", "c"]), 3) == {(0, 1), (1, 2)}


def test_each_word_is_claimed_once_and_continuations_come_first():
    found = Reading(["grand", "hotel", "grand", "opening"])
    assert found.claim("grand", following="opening") == 2
    assert found.claim("opening", last=2) == 3
    assert found.claim("grand") == 0
    assert found.claim("grand") is None
    assert found.claim("motel") is None


def test_of_equal_words_the_first_is_claimed_by_default():
    found = Reading(["on", "and", "on"])
    assert [found.claim("on") for _ in range(3)] == [0, 2, None]


def test_a_narrow_word_is_not_followed_by_itself():
    """A letter less than half as wide as high has its right side within half its height of its left side."""
    assert followers(reading(quad(0.1, 0.2, 0.04, 0.1), quad(0.17, 0.2, 0.2, 0.1)), 2) == {(0, 1)}


def test_flat_and_equal_boxes_are_accepted():
    flat = np.zeros((4, 2))
    same = quad(0.2, 0.2, 0.2, 0.1)
    assert isinstance(reading(flat, flat, same, same).continues(0, 1), bool)


def test_quads_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"quads has shape \(1, 4, 2\)"):
        Reading(["a", "b"], np.zeros((1, 4, 2)))
    assert Reading([], np.zeros((0,))).claim("a") is None


def test_many_equal_words_are_claimed_quickly():
    count = 1_000
    found = Reading(["a"] * count, [quad(0.1, 0.1, 0.5, 0.1)] * count)
    assert [found.claim("a", last, "a") for last in [None, *range(count - 1)]] == list(range(count))
    assert found.claim("a", 0, "a") is None
