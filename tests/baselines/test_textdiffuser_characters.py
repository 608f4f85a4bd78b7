from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vlad_lightning.baselines.textdiffuser_characters import character_maps
from vlad_lightning.data.mario import character_class
from vlad_lightning.data.synthetic.lettering import draw_classes
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.types import Layout

SIDE = 96


def drawn(*layouts: Layout) -> torch.Tensor:
    glyphs = torch.stack([Rasterizer()(layout, (SIDE, SIDE)) for layout in layouts])
    return character_maps(layouts, glyphs)


def at(word: str, x: float, y: float, width: float, height: float, angle: float = 0.0) -> Layout:
    box = torch.tensor([[x / SIDE, y / SIDE, width / SIDE, height / SIDE, angle]])
    return Layout((word,), box)


@pytest.mark.parametrize("word", ["Hello", "9g!", "WiNE"])
def test_the_classes_are_those_of_a_word_drawn_character_by_character(word: str) -> None:
    truth = np.asarray(draw_classes(word, "DejaVuSans-Bold.ttf", 24)).astype(np.int64)
    height, width = truth.shape
    left, top = 4, 30
    found = drawn(at(word, left + width / 2, top + height / 2, width, height))[0].numpy()
    inside = found[top : top + height, left : left + width]
    assert found.astype(bool).sum() == inside.astype(bool).sum()
    both = (inside > 0) & (truth > 0)
    assert both.sum() > 0.8 * (truth > 0).sum()  # antialiased differently at the edges
    assert (inside == truth)[both].mean() > 0.98
    assert set(np.unique(found)) == {0, *map(character_class, word)}


def test_a_turned_word_has_turned_classes() -> None:
    upright, turned = drawn(at("Ab3", 48, 48, 60, 20), at("Ab3", 48, 48, 60, 20, math.pi / 2))
    again = torch.rot90(upright, -1)
    assert (turned > 0).sum() > 100
    assert (turned == again).float().mean() > 0.98


def test_words_are_told_apart_and_a_layout_without_words_is_empty() -> None:
    pair = Layout(
        ("aa", "ZZ", "é"), torch.tensor([[0.5, 0.2, 0.5, 0.2, 0], [0.5, 0.7, 0.5, 0.2, 0], [0.9, 0.5, 0.1, 0.1, 0]])
    )
    found = drawn(pair, Layout.empty())
    assert set(found[0, :48].unique().tolist()) == {0, character_class("a")}  # MARIO knows no é
    assert set(found[0, 48:].unique().tolist()) == {0, character_class("Z")}
    assert not found[1].any()
    assert not drawn(Layout.empty()).any()
