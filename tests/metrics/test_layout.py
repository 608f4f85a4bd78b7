from __future__ import annotations

import math

import pytest
import torch

from vlad_lightning.layout.prompt_parser import REGIONS
from vlad_lightning.metrics.layout import (
    LayoutMetrics,
    any_overlap,
    in_region,
    objects_met,
    outside_area,
    overlap_areas,
    positions_met,
    rotated_iou,
)
from vlad_lightning.types import Layout


def box(x: float, y: float, width: float, height: float, angle: float = 0.0) -> list[float]:
    return [x, y, width, height, angle]


def test_rotated_iou_of_a_square_and_itself_turned() -> None:
    """A unit square and itself turned by 45 degrees share a regular octagon of area 2 (sqrt 2 - 1)."""
    square, turned = torch.tensor([box(0.5, 0.5, 1, 1)]), torch.tensor([box(0.5, 0.5, 1, 1, math.pi / 4)])
    octagon = 2 * (math.sqrt(2) - 1)
    assert rotated_iou(square, turned).item() == pytest.approx(octagon / (2 - octagon), abs=1e-6)


def test_rotated_iou_knows_that_a_quarter_turn_swaps_the_sides() -> None:
    first, second = torch.tensor([box(0.5, 0.5, 0.4, 0.2)]), torch.tensor([box(0.5, 0.5, 0.2, 0.4, math.pi / 2)])
    assert rotated_iou(first, second).item() == pytest.approx(1, abs=1e-6)


def test_overlap_counts_for_both_words() -> None:
    covered, total = overlap_areas(torch.tensor([box(0.2, 0.5, 0.4, 0.2), box(0.4, 0.5, 0.4, 0.2)]))
    assert (covered, total) == (pytest.approx(0.08), pytest.approx(0.16))


def test_outside_area() -> None:
    assert outside_area(torch.tensor([box(0.0, 0.5, 0.4, 0.2), box(0.5, 0.5, 0.4, 0.2)])) == pytest.approx(0.04)
    assert outside_area(torch.tensor([box(2.0, 2.0, 0.4, 0.2)])) == pytest.approx(0.08)
    assert outside_area(torch.zeros(0, 5)) == 0


@pytest.mark.parametrize("region", REGIONS)
def test_each_ninth_lies_in_its_region(region: str) -> None:
    x = 0.1 if "left" in region else 0.9 if "right" in region else 0.5
    y = 0.1 if "top" in region else 0.9 if "bottom" in region else 0.5
    assert in_region(x, y, region)
    assert not in_region(1 - x, 1 - y, region) or region == "center"


def test_a_side_takes_its_whole_third_and_the_center_only_the_middle() -> None:
    assert in_region(0.1, 0.1, "top")
    assert in_region(0.1, 0.9, "left")
    assert not in_region(0.1, 0.5, "top")
    assert not in_region(0.5, 0.1, "top left")
    assert not in_region(0.5, 0.1, "center")


def test_positions_met_matches_words_without_case_and_in_order() -> None:
    prompt = 'a poster with the text "HI" at the top and "hi" at the bottom and "NO" in the center'
    layout = Layout(("hi", "Hi"), torch.tensor([box(0.5, 0.1, 0.2, 0.1), box(0.5, 0.9, 0.2, 0.1)]))
    assert positions_met(prompt, layout) == (2, 3)
    assert positions_met(prompt, Layout(layout.words, layout.boxes.flip(0))) == (0, 3)
    assert positions_met("nothing to draw", layout) == (0, 0)


def test_the_place_of_a_phrase_is_the_middle_of_its_words() -> None:
    """Three lines in the upper third: two of their middles lie in it, one below; as a phrase it stands there."""
    prompt = 'a card with "Happy Birthday Anna" at the top'
    boxes = [box(0.5, 0.1, 0.4, 0.15), box(0.5, 0.28, 0.6, 0.15), box(0.5, 0.46, 0.4, 0.15)]
    layout = Layout(("Happy", "Birthday", "Anna"), torch.tensor(boxes))
    assert positions_met(prompt, layout) == (1, 1)
    lower = Layout(layout.words, layout.boxes + torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0]))
    assert positions_met(prompt, lower) == (0, 1)
    assert positions_met(prompt, Layout(layout.words[:2], layout.boxes[:2])) == (0, 1)  # a word is missing
    turned = Layout(("HI",), torch.tensor([box(0.1, 0.5, 0.6, 0.1, math.pi / 2)]))
    assert positions_met('"HI" on the left', turned) == (1, 1)


def test_the_middle_of_a_phrase_is_that_of_its_box_not_of_most_of_its_words() -> None:
    """From 0.05 to 0.67 the middle is at 0.36, below the upper third; the mean of the words' middles is at 0.29."""
    words = torch.tensor([box(0.5, 0.1, 0.4, 0.1), box(0.5, 0.15, 0.4, 0.1), box(0.5, 0.62, 0.4, 0.1)])
    assert positions_met('"Happy Birthday Anna" at the top', Layout(("Happy", "Birthday", "Anna"), words)) == (0, 1)


def test_words_overlap_where_they_share_over_a_twentieth_of_the_smaller() -> None:
    small, large = box(0.5, 0.5, 0.1, 0.1), box(0.599, 0.5, 0.1, 0.4)
    assert not any_overlap(torch.tensor([small, large]))  # a hundredth of the smaller
    assert any_overlap(torch.tensor([small, box(0.594, 0.5, 0.1, 0.4)]))
    assert any_overlap(torch.tensor([small, large]), allowed=0.005)
    assert not any_overlap(torch.zeros(0, 5))
    # bounding boxes that overlap are none: two parallel words, turned by 45 degrees
    assert not any_overlap(torch.tensor([box(0.4, 0.4, 0.5, 0.1, math.pi / 4), box(0.55, 0.4, 0.5, 0.1, math.pi / 4)]))


OBJECTS = 'a red star and a blue circle and a red star with "HI" on a white background'


def test_objects_are_matched_by_their_slots() -> None:
    truth = torch.tensor([box(0.1, 0.1, 0.2, 0.2), box(0.5, 0.5, 0.2, 0.2), box(0.9, 0.9, 0.2, 0.2), [0.0] * 5])
    known = torch.tensor([True, True, True, False])
    same = Layout((), torch.zeros(0, 5), (), ("a red star", "A blue circle", "red star"), truth[:3])
    assert objects_met(OBJECTS, same, truth, known) == (pytest.approx(3), 3)
    two = Layout((), torch.zeros(0, 5), (), ("a red star", "a white background"), truth[[2, 0]])
    assert objects_met(OBJECTS, two, truth, known) == (0, 0)  # the first star stands where the second should
    near = Layout((), torch.zeros(0, 5), (), ("a blue circle",), torch.tensor([box(0.6, 0.5, 0.2, 0.2)]))
    assert objects_met(OBJECTS, near, truth, known) == (pytest.approx(1 / 3, abs=1e-6), 1)
    other = Layout((), torch.zeros(0, 5), (), ("a cat",), truth[:1])
    assert objects_met(OBJECTS, other, truth, known) == (0, 0)


def test_metric_counts_objects_and_layouts_with_overlaps() -> None:
    star, apart = (
        torch.tensor([box(0.1, 0.1, 0.2, 0.2)]),
        torch.tensor([box(0.5, 0.2, 0.2, 0.1), box(0.5, 0.8, 0.2, 0.1)]),
    )
    truth, mask = torch.zeros(3, 2, 5), torch.zeros(3, 2, dtype=torch.bool)
    things, known = star.expand(3, 1, 5), torch.tensor([[True], [True], [False]])
    layouts = [
        Layout(("A", "B"), apart[[0, 0]], (), ("a red star",), star),
        Layout(("A", "B"), apart),
        Layout(("A",), apart[:1], moved=1),
    ]
    metric = LayoutMetrics()
    metric.update(layouts, [OBJECTS] * 3, truth, mask, things, known)
    results = metric.compute()
    assert (results["overlap_share"].value, results["overlap_share"].n) == (pytest.approx(1 / 3), 3)
    assert (results["object_iou"].value, results["object_iou"].n) == (pytest.approx(0.5), 2)
    assert (results["object_position"].value, results["object_position"].n) == (0.5, 2)
    assert (results["moved"].value, results["moved"].n) == (pytest.approx(1 / 6), 6)


def test_the_background_does_not_count() -> None:
    star, frame = box(0.1, 0.1, 0.2, 0.2), box(0.5, 0.5, 1.0, 1.0)
    truth, known = torch.tensor([[star, frame]]), torch.tensor([[True, True]])
    layout = Layout((), torch.zeros(0, 5), (), ("a red star", "a white background"), truth[0])
    metric = LayoutMetrics()
    metric.update([layout], ["a red star on a white background"], truth[:, :0], known[:, :0], truth, known)
    results = metric.compute()
    assert (results["object_iou"].n, results["object_position"].n, results["moved"].n) == (1, 1, 1)


def test_true_objects_come_with_their_mask() -> None:
    with pytest.raises(ValueError, match="one of truth_objects and truth_object_mask is None"):
        LayoutMetrics().update([], [], torch.zeros(0, 2, 5), torch.zeros(0, 2, dtype=torch.bool), torch.zeros(0, 1, 5))


def test_metric_pools_words_over_layouts() -> None:
    truth = torch.tensor([[box(0.5, 0.1, 0.2, 0.1), box(0.5, 0.9, 0.2, 0.1)], [box(0.5, 0.5, 0.2, 0.2), [0.0] * 5]])
    mask = torch.tensor([[True, True], [True, False]])
    predicted = [Layout(("A", "B"), truth[0]), Layout(("C",), torch.tensor([box(0.6, 0.5, 0.2, 0.2)]))]
    prompts = ['the text "A" at the top and "B" at the top', 'the text "C" in the center']
    metric = LayoutMetrics()
    metric.update(predicted, prompts, truth, mask)
    results = metric.compute()
    assert {name: result.value for name, result in results.items()} == {
        "iou": pytest.approx((1 + 1 + 1 / 3) / 3, abs=1e-6),
        "overlap": pytest.approx(0, abs=1e-6),
        "out_of_bounds": pytest.approx(0, abs=1e-6),
        "position_accuracy": pytest.approx(2 / 3),
        "overlap_share": 0,
        "moved": 0,
    }
    assert results["iou"].n == 3
    assert results["position_accuracy"].n == 3


def test_a_word_that_the_layout_lacks_has_an_iou_of_zero() -> None:
    truth = torch.tensor([[box(0.5, 0.5, 0.2, 0.1), box(0.5, 0.9, 0.2, 0.1)]])
    metric = LayoutMetrics()
    metric.update([Layout(("A",), truth[0, :1])], ["x"], truth, torch.ones(1, 2, dtype=torch.bool))
    assert metric.compute()["iou"].value == pytest.approx(0.5)


def test_layouts_with_more_words_than_truth_and_none_at_all() -> None:
    metric = LayoutMetrics()
    three = Layout(("A", "B", "C"), torch.tensor([box(0.2 * i, 0.5, 0.1, 0.1) for i in (1, 2, 3)]))
    metric.update([three, Layout.empty()], ["x", "y"], torch.zeros(2, 2, 5), torch.zeros(2, 2, dtype=torch.bool))
    assert set(metric.compute()) == {"overlap", "out_of_bounds", "overlap_share", "moved"}


def test_the_number_of_words_is_not_confused_with_their_area() -> None:
    """The counts under the shares of an area are of words."""
    metric = LayoutMetrics()
    two = Layout(("A", "B"), torch.tensor([box(0.2, 0.5, 0.1, 0.1), box(0.7, 0.5, 0.1, 0.1)]))
    metric.update([two], ["x"], torch.zeros(1, 2, 5), torch.zeros(1, 2, dtype=torch.bool))
    assert metric.compute()["overlap"].n == 2


def test_without_updates_there_are_no_results() -> None:
    assert LayoutMetrics().compute() == {}


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 1, 1, 1, 1\) entries"):
        LayoutMetrics().update([Layout.empty()], ["a", "b"], torch.zeros(1, 2, 5), torch.zeros(1, 2, dtype=torch.bool))
