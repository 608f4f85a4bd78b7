from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.objects import SHARES, ObjectMetrics, match_objects, object_row
from vlad_lightning.types import MetricResult

RED_STAR, BLUE_RING = FoundObject("star", "red", 0.8, 0.5), FoundObject("ring", "blue", 0.2, 0.2)
PROMPT = "a red star on the right and a blue ring above a green heart, with 'SQUARE' at the top"
HEART = FoundObject("heart", "green", 0.25, 0.8)


class Listed:
    """A detector with a given list of objects per picture."""

    name, sha256, nouns = "listed", "0" * 64, SHAPES

    def __init__(self, *pictures: Sequence[FoundObject]) -> None:
        self.pictures = list(pictures)

    def detect(self, images: torch.Tensor) -> list[tuple[FoundObject, ...]]:
        return [tuple(self.pictures.pop(0)) for _ in images]


def results(prompts: Sequence[str], *pictures: Sequence[FoundObject]) -> dict[str, MetricResult]:
    metric = ObjectMetrics(Listed(*pictures))
    metric.update(torch.zeros(len(prompts), 3, 8, 8), prompts)
    return metric.compute()


def values(prompt: str, found: Sequence[FoundObject]) -> dict[str, float]:
    return {name: round(result.value, 4) for name, result in results([prompt], found).items()}


PERFECT = dict.fromkeys(SHARES, 1.0) | {"object_extra": 0.0}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([RED_STAR, BLUE_RING, HEART], {}),
        # a red blob at the right place: present and coloured, no star
        ([FoundObject(None, "red", 0.8, 0.5), BLUE_RING, HEART], {"object_shape": 2 / 3, "object_binding": 2 / 3}),
        # a pink star
        ([FoundObject("star", "pink", 0.8, 0.5), BLUE_RING, HEART], {"object_colour": 2 / 3, "object_binding": 2 / 3}),
        # the star on the left
        ([FoundObject("star", "red", 0.2, 0.5), BLUE_RING, HEART], {"object_position": 1 / 2, "object_binding": 2 / 3}),
        # the ring below the heart
        (
            [RED_STAR, FoundObject("ring", "blue", 0.25, 0.95), HEART],
            {"object_position": 1 / 2, "object_binding": 2 / 3},
        ),
        # without the heart the ring stands above nothing
        (
            [RED_STAR, BLUE_RING],
            {
                "object_presence": 2 / 3,
                "object_colour": 2 / 3,
                "object_shape": 2 / 3,
                "object_position": 1 / 2,
                "object_binding": 1 / 3,
            },
        ),
        # colours of two objects exchanged: everything is there, and bound wrongly
        (
            [FoundObject("star", "blue", 0.8, 0.5), FoundObject("ring", "red", 0.2, 0.2), HEART],
            {"object_colour": 1 / 3, "object_binding": 1 / 3},
        ),
        ([RED_STAR, BLUE_RING, HEART, FoundObject("circle", "white", 0.5, 0.5)], {"object_extra": 1 / 4}),
    ],
)
def test_results_of_known_pictures_equal_hand_counts(found: list[FoundObject], expected: dict[str, float]) -> None:
    assert values(PROMPT, found) == {k: round(v, 4) for k, v in (PERFECT | expected).items()}


def test_nothing_on_the_picture_is_zero_everywhere() -> None:
    assert values(PROMPT, []) == dict.fromkeys(SHARES, 0.0)


def test_objects_of_another_shape_and_colour_match_no_request() -> None:
    found = [FoundObject(None, "white", 0.8, 0.5), FoundObject("circle", "black", 0.2, 0.2)]
    assert match_objects(requested_objects(PROMPT), found) == [None, None, None]
    assert values(PROMPT, found) == dict.fromkeys(SHARES, 0.0) | {"object_extra": 1.0}


def test_one_object_matches_one_request() -> None:
    row = object_row(requested_objects("two red stars and a red ring"), [RED_STAR])
    assert (row["asked"], row["present"], row["shapes_right"]) == (3, 1, 1)


def test_objects_of_one_kind_are_distinguished_by_their_places() -> None:
    wanted = requested_objects("a star at the left and a star at the right")
    right, left = FoundObject("star", "red", 0.9, 0.5), FoundObject("star", "blue", 0.1, 0.5)
    assert match_objects(wanted, [right, left]) == [left, right]


def test_a_full_match_is_preferred_to_more_partial_matches() -> None:
    """The green star matches the first request fully, and the second only by half."""
    wanted = requested_objects("a green star and a red star")
    green = FoundObject("star", "green", 0.1, 0.5)
    assert match_objects(wanted, [green]) == [green, None]
    # two half matches count less than a full match of the first
    assert match_objects(wanted, [green, FoundObject("ring", "green", 0.9, 0.5)]) == [green, None]
    there = requested_objects("a green star at the right")
    assert match_objects(there, [FoundObject("star", "red", 0.9, 0.5), green]) == [green]  # nor is a place worth more
    blue_star, green_ring = FoundObject("star", "blue", 0, 0), FoundObject("ring", "green", 0, 0)
    assert match_objects(requested_objects("a green star"), [blue_star, green_ring])[0] in (blue_star, green_ring)


def test_unnamed_attributes_are_not_requested() -> None:
    found = [FoundObject("star", "pink", 0.1, 0.1)]
    expected = {"object_presence": 1.0, "object_shape": 1.0, "object_binding": 1.0, "object_extra": 0.0}
    assert values("a star, with 'RED RING' at the bottom", found) == expected
    assert results(["a dog"], found) == {}
    assert results([], *[]) == {}


def test_shares_are_pooled_over_pictures_and_have_intervals() -> None:
    prompts = ["a red star"] * 3 + ["a blue ring and a green heart"]
    shown = results(prompts, [RED_STAR], [RED_STAR], [], [BLUE_RING])
    presence = shown["object_presence"]
    assert (presence.value, presence.n) == (3 / 5, 5)
    assert presence.low is not None
    assert presence.high is not None
    assert 0 <= presence.low < presence.value < presence.high <= 1


def test_details_name_the_detector_the_chance_level_and_unknown_objects() -> None:
    prompts = ["a red star beside a dog", "a blue ring", "a red ring"]
    shown = results(prompts, [RED_STAR], [BLUE_RING], [FoundObject("ring", "red", 0.5, 0.5)])
    details = shown["object_shape"].details
    assert (details["network"], details["sha256"], details["unknown"]) == ("listed", "0" * 64, 1)
    # each picture with the next prompt: a star for a blue ring, a ring for a red ring, a ring for a red star
    assert details["chance"] == pytest.approx(1 / 3)
    assert shown["object_presence"].details["chance"] == pytest.approx(2 / 3)
    assert shown["object_binding"].details["chance"] == 0
    assert results(["a red star"], [RED_STAR])["object_shape"].details["chance"] is None


def test_numbers_of_pictures_and_prompts_must_be_equal() -> None:
    with pytest.raises(ValueError, match="prompts has 1 entries"):
        ObjectMetrics(Listed()).update(torch.zeros(2, 3, 8, 8), ["a star"])


def test_a_detector_is_no_part_of_the_metric() -> None:
    class Network(torch.nn.Linear):
        name, sha256, nouns = "network", "1", SHAPES

        def detect(self, images: torch.Tensor) -> list[tuple[FoundObject, ...]]:
            return [() for _ in images]

    metric = ObjectMetrics(Network(2, 2))
    assert not list(metric.parameters())
    assert not metric.state_dict()
