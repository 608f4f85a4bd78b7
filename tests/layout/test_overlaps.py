from __future__ import annotations

import math
import sys
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlad_lightning.layout.overlaps import overlap_share, resolve_overlaps
from vlad_lightning.types import Layout


def bounds(boxes: Tensor) -> list[list[float]]:
    """Return (N, 4): left, top, right, bottom of the corners, which the tested code does not use."""
    quads = Layout(("",) * len(boxes), boxes.double()).quads()
    return torch.cat([quads.amin(1), quads.amax(1)], dim=1).tolist()


def shared(first: list[float], second: list[float]) -> float:
    """Return the overlap of two upright rectangles as a share of the smaller one."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(r[2] - r[0]) * (r[3] - r[1]) for r in (first, second)]
    return max(wide, 0) * max(high, 0) / min(areas)


def reads_after(first: list[float], second: list[float]) -> bool:
    """Return whether a word is below the first one, or right of it and not above its line."""
    below = (second[1] + second[3] - first[1] - first[3]) / 2
    line = max(first[3] - first[1], second[3] - second[1]) / 2
    return below > line or (below > -line - 1e-6 and second[0] + second[2] >= first[0] + first[2])


def assert_resolved(boxes: Tensor, groups: list[int]) -> None:
    rectangles = bounds(boxes)
    assert all(min(r[:2]) >= -2e-5 and max(r[2:]) <= 1 + 2e-5 for r in rectangles)
    for i, j in combinations(range(len(boxes)), 2):
        assert shared(rectangles[i], rectangles[j]) <= 0.0101
        assert groups[i] != groups[j] or reads_after(rectangles[i], rectangles[j])


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


@st.composite
def layouts(draw: st.DrawFn, least: int = 0) -> tuple[Tensor, list[int]]:
    """Draw up to six words as a generator may place them: also outside the frame, all on one spot, or turned."""
    box = st.tuples(numbers(-0.125, 1.125), numbers(-0.125, 1.125), numbers(0.03125, 0.625), numbers(0.03125, 0.25))
    count = draw(st.integers(least, 6))
    rows = [[*draw(box), draw(numbers(-0.5, 0.5))] for _ in range(count)]
    groups = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    return torch.tensor(rows).view(-1, 5), groups


@settings(max_examples=150, deadline=None)
@given(layouts())
def test_words_end_up_apart_in_the_frame_and_in_reading_order(layout: tuple[Tensor, list[int]]) -> None:
    boxes, groups = layout
    resolved = resolve_overlaps(boxes, groups)
    assert resolved.boxes.dtype == torch.float32
    assert_resolved(resolved.boxes, groups)
    assert torch.equal(resolved.boxes[:, 4], boxes[:, 4])
    ratios = resolved.boxes[:, 2:4] / boxes[:, 2:4]  # uniformly smaller, never larger
    assert (ratios <= 1 + 1e-6).all()
    torch.testing.assert_close(ratios[:, 0], ratios[:, 1])


@settings(max_examples=80, deadline=None)
@given(layouts(), layouts())
def test_a_resolved_layout_comes_back_bit_for_bit(
    layout: tuple[Tensor, list[int]], others: tuple[Tensor, list[int]]
) -> None:
    once = resolve_overlaps(*layout, objects=others[0])
    again = resolve_overlaps(once.boxes, layout[1], once.objects)
    assert again.moved == 0
    assert torch.equal(again.boxes, once.boxes)
    assert torch.equal(again.objects, once.objects)


@settings(max_examples=80, deadline=None)
@given(layouts(), layouts())
def test_objects_do_not_move_words(layout: tuple[Tensor, list[int]], others: tuple[Tensor, list[int]]) -> None:
    assert torch.equal(resolve_overlaps(*layout, objects=others[0]).boxes, resolve_overlaps(*layout).boxes)


def phrase(angle: float = 0.0) -> Tensor:
    """Make 'Happy Birthday Anna' as the demo once drew it: its words overlap."""
    return torch.tensor([[0.5, 0.2, 0.45, 0.12, angle], [0.52, 0.21, 0.6, 0.13, angle], [0.5, 0.22, 0.3, 0.12, angle]])


@pytest.mark.parametrize("angle", [0.0, 0.15])
def test_a_phrase_with_overlapping_words_becomes_lines_in_reading_order(angle: float) -> None:
    resolved = resolve_overlaps(phrase(angle), [0, 0, 0])
    assert_resolved(resolved.boxes, [0, 0, 0])
    assert resolved.boxes[:, 1].tolist() == sorted(resolved.boxes[:, 1].tolist())
    assert torch.equal(resolved.boxes[:, 2:], phrase(angle)[:, 2:])  # there was room
    assert resolved.moved == 3


def test_two_words_part_along_the_axis_in_which_they_overlap_least() -> None:
    boxes = torch.tensor([[0.4, 0.5, 0.3, 0.1, 0.0], [0.5, 0.56, 0.3, 0.1, 0.0], [0.2, 0.9, 0.2, 0.1, 0.0]])
    resolved = resolve_overlaps(boxes, [0, 1, 2])
    expected = [[0.4, 0.4795], [0.5, 0.5805], [0.2, 0.9]]  # 0.04 and the gap of 0.001, half of it each
    torch.testing.assert_close(resolved.boxes[:, :2], torch.tensor(expected), atol=1e-6, rtol=0)
    assert torch.equal(resolved.boxes[2], boxes[2])
    assert resolved.moved == 2


def test_words_in_the_wrong_order_exchange_their_places() -> None:
    boxes = torch.tensor([[0.7, 0.5, 0.2, 0.1, 0.0], [0.3, 0.5, 0.3, 0.1, 0.0]])
    assert resolve_overlaps(boxes, [0, 0]).boxes[:, 0].tolist() == pytest.approx([0.3, 0.7])
    assert resolve_overlaps(boxes, [0, 1]).boxes is boxes  # two phrases have no order


def test_a_layout_without_overlaps_is_unchanged() -> None:
    boxes = torch.tensor([[0.3, 0.2, 0.3, 0.1, 0.1], [0.7, 0.2, 0.3, 0.1, 0.1], [0.5, 0.8, 0.9, 0.3, 0.0]])
    objects = torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.0]])
    resolved = resolve_overlaps(boxes, [0, 0, 1], objects)
    assert (resolved.boxes is boxes, resolved.objects is objects, resolved.moved) == (True, True, 0)
    nothing = resolve_overlaps(torch.zeros(0, 5), [])
    assert (len(nothing.boxes), len(nothing.objects), nothing.moved) == (0, 0, 0)


def test_the_background_stays_and_nothing_moves_for_it() -> None:
    boxes = torch.tensor([[0.5, 0.2, 0.6, 0.2, 0.0]])
    objects = torch.tensor([[0.5, 0.5, 0.98, 0.97, 0.0], [0.5, 0.6, 0.2, 0.2, 0.0], [0.5, 0.25, 0.2, 0.2, 0.0]])
    resolved = resolve_overlaps(boxes, [0], objects)
    assert torch.equal(resolved.boxes, boxes)
    assert torch.equal(resolved.objects[:2], objects[:2])
    assert resolved.moved == 1


def test_words_without_room_get_smaller() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.9, 0.5, 0.0]] * 6)
    resolved = resolve_overlaps(boxes, [0, 0, 0, 1, 1, 2])
    assert_resolved(resolved.boxes, [0, 0, 0, 1, 1, 2])
    assert resolved.boxes[:, 2].min() > 0.2


def test_only_words_without_room_get_smaller() -> None:
    """Two lines that together are higher than the frame, and beside them a word that overlaps neither."""
    boxes = torch.tensor([[0.5, 0.5, 0.9, 0.6, 0.0], [0.5, 0.5, 0.9, 0.6, 0.0], [0.024, 0.5, 0.04, 0.04, 0.0]])
    resolved = resolve_overlaps(boxes, [0, 0, 1])
    assert_resolved(resolved.boxes, [0, 0, 1])
    assert torch.equal(resolved.boxes[2], boxes[2])
    assert resolved.boxes[:2, 3].max() <= 0.5
    assert resolved.moved == 2


def test_an_object_leaves_the_word_by_the_shortest_way() -> None:
    word, star = torch.tensor([[0.5, 0.5, 0.6, 0.2, 0.0]]), torch.tensor([[0.5, 0.58, 0.2, 0.2, 0.0]])
    resolved = resolve_overlaps(word, [0], star)
    assert torch.equal(resolved.boxes, word)
    torch.testing.assert_close(resolved.objects, torch.tensor([[0.5, 0.725, 0.2, 0.2, 0.0]]), atol=1e-6, rtol=0)


def test_an_object_that_touches_a_word_keeps_clear_of_it() -> None:
    word = torch.tensor([[0.5, 0.5, 0.6, 0.2, 0.0]])
    touching, clear = torch.tensor([[0.5, 0.71, 0.2, 0.2, 0.0]]), torch.tensor([[0.5, 0.73, 0.2, 0.2, 0.0]])
    moved = resolve_overlaps(word, [0], touching)
    torch.testing.assert_close(moved.objects, torch.tensor([[0.5, 0.725, 0.2, 0.2, 0.0]]), atol=1e-6, rtol=0)
    assert moved.moved == 1
    assert torch.equal(resolve_overlaps(word, [0], clear).objects, clear)


def test_an_object_without_room_to_be_clear_stays() -> None:
    words = torch.tensor([[0.5, 0.2, 1.0, 0.4, 0.0], [0.5, 0.8, 1.0, 0.4, 0.0]])
    star = torch.tensor([[0.5, 0.505, 0.18, 0.18, 0.0]])
    assert torch.equal(resolve_overlaps(words, [0, 1], star).objects, star)
    smaller = torch.tensor([[0.5, 0.52, 0.14, 0.14, 0.0]])
    assert resolve_overlaps(words, [0, 1], smaller).objects[0, 1] == pytest.approx(0.505)


def test_an_object_shrinks_if_there_is_little_room_and_stays_if_there_is_none() -> None:
    words = torch.tensor([[0.5, 0.2, 1.0, 0.4, 0.0], [0.5, 0.8, 1.0, 0.4, 0.0]])  # leaves a band of a fifth
    star = torch.tensor([[0.5, 0.5, 0.3, 0.3, 0.0]])
    resolved = resolve_overlaps(words, [0, 1], star).objects[0]
    assert resolved.tolist() == pytest.approx([0.5, 0.5, 0.165, 0.165, 0.0], abs=1e-6)
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0, 0.0]])
    assert torch.equal(resolve_overlaps(whole, [0], star).objects, star)


def test_objects_move_apart() -> None:
    stars = torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.0], [0.45, 0.5, 0.2, 0.2, 0.0]])
    first, second = resolve_overlaps(torch.zeros(0, 5), [], stars).objects
    assert torch.equal(first, stars[0])
    assert overlap_share(first, second) == 0
    assert overlap_share(stars[0], stars[1]) == pytest.approx(0.75)


def test_the_shared_area_of_a_turned_box_uses_its_bounding_box() -> None:
    square = torch.tensor([0.5, 0.5, 0.2, 0.2, math.pi / 4])
    small = torch.tensor([0.62, 0.62, 0.02, 0.02, 0.0])
    assert overlap_share(square, small) == pytest.approx(1)


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="groups has 1 entries"):
        resolve_overlaps(phrase(), [0])


def test_resolving_overlaps_is_fast() -> None:
    """The median is 750 function calls for six words; ten times as many would mean a wrong loop."""
    generator = torch.Generator().manual_seed(0)
    calls: list[int] = []

    def count(frame: object, event: str, argument: object) -> None:
        calls[-1] += event == "call"

    for _ in range(40):
        boxes = torch.rand(6, 5, generator=generator) * torch.tensor([1, 1, 0.4, 0.2, 0.2])
        calls.append(0)
        sys.setprofile(count)
        resolve_overlaps(boxes, [0, 0, 1, 1, 1, 2])
        sys.setprofile(None)
    assert sorted(calls)[20] < 7500
