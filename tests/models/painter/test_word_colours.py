from __future__ import annotations

import pytest
import torch

from vlad_lightning.layout.masks import box_masks
from vlad_lightning.models.painter.word_colours import CHANNELS, draw_word_colours
from vlad_lightning.types import Layout

BOXES = torch.tensor([[0.25, 0.25, 0.3, 0.2, 0.4], [0.7, 0.7, 0.4, 0.3, 0.0]])


def test_each_box_holds_its_colour_and_where_it_is_given() -> None:
    layout = Layout(("A", "B"), BOXES, colours=("#ff8000", None))
    drawn = draw_word_colours([layout, Layout.empty(), Layout(("A",), BOXES[:1])], (64, 64))
    assert drawn.shape == (3, CHANNELS, 64, 64)
    assert not drawn[1:].any()
    inside = box_masks(
        BOXES[None, :1] * torch.tensor([1, 1, 0.8, 0.8, 1]), torch.ones(1, 1, dtype=torch.bool), (64, 64)
    )[0, 0]
    around = box_masks(
        BOXES[None, :1] * torch.tensor([1, 1, 1.3, 1.3, 1]), torch.ones(1, 1, dtype=torch.bool), (64, 64)
    )[0, 0]
    torch.testing.assert_close(drawn[0][:, inside].mean(dim=1), torch.tensor([1.0, 128 / 127.5 - 1, -1.0, 1.0]))
    assert not drawn[0][:, ~around].any()


def test_black_is_not_the_same_as_no_colour() -> None:
    black = draw_word_colours([Layout(("A",), BOXES[1:], colours=("black",))], (32, 32))[0]
    assert black[3].max() == 1
    assert black[:3].min() < -0.8


def test_an_unknown_colour_is_left_out() -> None:
    layout = Layout(("A", "B"), BOXES, colours=("shiny", "red"))
    assert torch.equal(
        draw_word_colours([layout], (32, 32)),
        draw_word_colours([Layout(("B",), BOXES[1:], colours=("red",))], (32, 32)),
    )


def test_the_later_of_two_words_is_on_top() -> None:
    twice = Layout(("A", "B"), BOXES[[1, 1]], colours=("white", "black"))
    assert draw_word_colours([twice], (32, 32))[0, 0, 22, 22] == pytest.approx(18 / 127.5 - 1)
