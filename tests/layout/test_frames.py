from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.layout.frames import into_frame
from vlad_lightning.layout.masks import FRAME
from vlad_lightning.layout.overlaps import overlap_share
from vlad_lightning.types import Layout

WORDS = ("HAPPY", "BIRTHDAY", "TOM")
BOXES = [[0.4, 0.3, 0.2, 0.1, 0.0], [0.7, 0.3, 0.3, 0.1, 0.0], [0.5, 0.8, 0.2, 0.1, 0.0]]
LAYOUT = Layout(
    WORDS, torch.tensor(BOXES), objects=("a cake", "a sky"), object_boxes=torch.tensor([[0.2, 0.6, 0.2, 0.3, 0], FRAME])
)
GROUPS = (0, 0, 1)
SIZES = [(128, 192), (128, 256), (192, 128), (300, 100)]


def pixels(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the corners of boxes in shorter sides of the frame."""
    return Layout(("",) * len(boxes), boxes).quads() * torch.tensor([size[1], size[0]]) / min(size)


def test_a_square_is_left_as_it_is() -> None:
    assert into_frame(LAYOUT, GROUPS, (64, 64)) is LAYOUT


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_stretched_and_phrases_stay_together(size: tuple[int, int]) -> None:
    placed = into_frame(LAYOUT, GROUPS, size)
    before, after = pixels(LAYOUT.boxes, (1, 1)), pixels(placed.boxes, size)
    for members in ([0, 1], [2]):  # the same picture, elsewhere
        shift = after[members] - before[members]
        torch.testing.assert_close(shift, shift[:1, :1].expand_as(shift), atol=1e-5, rtol=0)
    middles = [(0.575, 0.3), (0.5, 0.8)]  # of the phrases' boxes
    for (x, y), part in zip(middles, (after[:2], after[2:]), strict=True):
        middle = (part.amin(dim=(0, 1)) + part.amax(dim=(0, 1))) / 2
        torch.testing.assert_close(middle, torch.tensor([x * size[1], y * size[0]]) / min(size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_objects_keep_their_proportions_and_backgrounds_fill_the_frame(size: tuple[int, int]) -> None:
    cake, sky = into_frame(LAYOUT, GROUPS, size).object_boxes
    assert torch.equal(sky, torch.tensor(FRAME))
    torch.testing.assert_close(cake[:2], torch.tensor([0.2, 0.6]))
    torch.testing.assert_close(cake[2:4] * torch.tensor([size[1], size[0]]) / min(size), torch.tensor([0.2, 0.3]))


def test_a_turned_box_stays_nearly_turned_as_it_was() -> None:
    layout = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.4, 0.1, 0.2]]))
    placed = into_frame(layout, (0,), (100, 150))
    before, after = pixels(layout.boxes, (1, 1))[0], pixels(placed.boxes, (100, 150))[0]
    torch.testing.assert_close(after - after.mean(0), before - before.mean(0), atol=0.02, rtol=0)


centre, side = st.floats(0.125, 0.875, width=32), st.floats(0.03125, 0.25, width=32)
boxes = st.lists(st.tuples(centre, centre, side, side, st.just(0.0)), min_size=2, max_size=6)


@settings(max_examples=200, deadline=None)
@given(boxes, st.sampled_from(SIZES))
def test_what_is_apart_in_the_square_is_apart_in_the_frame(placed, size):
    before = torch.tensor(placed)
    after = into_frame(Layout(("x",) * len(before), before), range(len(before)), size).boxes
    for i in range(len(before)):
        for j in range(i):
            if overlap_share(before[i], before[j]) == 0:
                assert overlap_share(after[i], after[j]) < 1e-3
