from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.layout.masks import FRAME
from vlad_lightning.layout.object_rows import in_proportion
from vlad_lightning.types import Layout

number = st.floats(0.0, 1.0, width=32)
side = st.floats(0.03125, 0.5, width=32)


@settings(max_examples=200, deadline=None)
@given(number, number, side, side, st.sampled_from(["two red stars", "three cars", "six fish"]), st.floats(-0.5, 0.5))
def test_rows_are_long_enough_and_in_the_frame(x, y, width, height, phrase, angle):
    box = torch.tensor([[x, y, width, height, angle]])
    (made,) = in_proportion([phrase], box)
    count = {"two": 2, "three": 3, "six": 6}[phrase.split()[0]]
    long, short = (float(made[2:4].max()), float(made[2:4].min()))
    assert long / short >= 1.05 * count * (1 - 1e-5)
    assert (made[2] >= made[3]) == (width >= height)  # it lies or stands as before
    assert made[4] == box[0, 4]
    if max(width, height) / min(width, height) >= 1.05 * count:
        assert torch.equal(made, box[0])
        return
    assert long <= 0.96 + 1e-6
    assert long * short <= width * height * (1 + 1e-5)
    if long < 0.95:
        assert long * short == pytest.approx(width * height, rel=1e-4)
    quads = Layout((phrase,), made[None]).quads()
    assert quads.min() > -1e-5
    assert quads.max() < 1 + 1e-5


def test_what_is_no_row_stays_bit_for_bit() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.31, 0.29, 0.1], FRAME, [0.3, 0.3, 0.1, 0.4, 0.0]])
    made = in_proportion(["a red star", "two dotted backgrounds", "three fish"], boxes)
    assert torch.equal(made, boxes)
    assert in_proportion([], boxes[:0]).shape == (0, 5)


def test_a_square_row_in_the_middle_keeps_its_centre_and_area() -> None:
    (made,) = in_proportion(["three blue cars"], torch.tensor([[0.5, 0.4, 0.3, 0.3, 0.0]]))
    long, short = math.sqrt(0.09 * 3.15), math.sqrt(0.09 / 3.15)
    torch.testing.assert_close(made, torch.tensor([0.5, 0.4, long, short, 0.0]))


def test_damaged_numbers_pass_through() -> None:
    broken = torch.tensor([[math.nan, 0.5, 0.3, 0.3, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]])
    made = in_proportion(["two cars", "two cars"], broken)
    torch.testing.assert_close(made, broken, rtol=0, atol=0, equal_nan=True)
