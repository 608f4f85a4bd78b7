"""Phrases set in letters of one size, near the boxes that a layout generator sampled."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.overlaps import resolve_overlaps
from vlad_lightning.layout.typesetting import typeset
from vlad_lightning.types import Layout

WORDS = ("TYPE", "one", "Ox", "illicit", "MMM", "2024")
SIDE = 256


def ratios_of_ink(words: tuple[str, ...]) -> list[float]:
    """Return width by height of each word's ink, measured on a picture of it that is drawn large."""
    from PIL import Image, ImageDraw

    from vlad_lightning.layout.fonts import load_font

    ratios = []
    for word in words:
        picture = Image.new("L", (2000, 300))
        ImageDraw.Draw(picture).text((20, 20), word, fill=255, font=load_font(None, 128))
        left, top, right, bottom = picture.getbbox()
        ratios.append((right - left) / (bottom - top))
    return ratios


@st.composite
def sampled(draw: st.DrawFn) -> tuple[tuple[str, ...], torch.Tensor, list[int]]:
    """Draw boxes as a bad layout generator may place them: squeezed, stretched, out of line, beyond the frame."""
    count = draw(st.integers(1, len(WORDS)))
    number = st.floats(-0.125, 1.125, width=32)
    sides = st.tuples(st.floats(0.03125, 0.5, width=32), st.floats(0.03125, 0.25, width=32))
    rows = [[draw(number), draw(number), *draw(sides), draw(st.floats(-0.125, 0.125, width=32))] for _ in range(count)]
    groups = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    return WORDS[:count], torch.tensor(rows), groups


@settings(max_examples=100, deadline=None)
@given(sampled())
def test_words_have_their_proportions_and_nothing_is_left_to_resolve(drawn):
    words, boxes, groups = drawn
    placed, moved = typeset(words, boxes, groups)
    assert placed.shape == boxes.shape
    assert placed.dtype == torch.float32
    assert 0 <= moved <= len(words)
    for box, ratio in zip(placed.tolist(), ratios_of_ink(words), strict=True):
        assert box[2] / box[3] == pytest.approx(ratio, rel=0.06)
    quads = Layout(words, placed).quads()
    assert quads.min() > -1e-3
    assert quads.max() < 1 + 1e-3
    for first, second in pairwise(range(len(words))):
        if groups[first] == groups[second]:
            assert placed[first, 4] == placed[second, 4]
    assert (resolve_overlaps(placed, groups).boxes - placed).abs().max() < 0.02


def test_a_word_keeps_its_centre_its_area_and_its_angle():
    box = torch.tensor([[0.4, 0.6, 0.3, 0.3, 0.1]])  # far too narrow for this word
    placed, moved = typeset(("illicit",), box, [0])
    assert moved == 0
    assert placed[0, [0, 1, 4]].tolist() == pytest.approx(box[0, [0, 1, 4]].tolist())
    assert placed[0, 2] * placed[0, 3] == pytest.approx(0.09, rel=1e-4)
    assert placed[0, 2] > 1.5 * placed[0, 3]


def test_words_of_a_line_come_to_stand_on_one_baseline():
    boxes = torch.tensor([[0.25, 0.48, 0.25, 0.1, 0.0], [0.6, 0.53, 0.2, 0.16, 0.0]])
    placed, _ = typeset(("TYPE", "one"), boxes, [0, 0])
    bottom = placed[:, 1] + placed[:, 3] / 2
    assert bottom[0] == pytest.approx(bottom[1].item(), abs=0.004)  # round letters reach a little below
    assert placed[0, 3] > 1.2 * placed[1, 3]  # capitals are taller
    gap = (placed[1, 0] - placed[1, 2] / 2) - (placed[0, 0] + placed[0, 2] / 2)
    assert 0 < gap < 0.1
    assert placed[:, :2].mean(0).tolist() == pytest.approx(boxes[:, :2].mean(0).tolist(), abs=0.06)


@pytest.mark.parametrize(
    ("ys", "lines"), [((0.5, 0.5, 0.5), 1), ((0.4, 0.4, 0.6), 2), ((0.35, 0.5, 0.65), 3)], ids=["one", "two", "three"]
)
def test_lines_are_broken_where_the_boxes_break(ys, lines):
    xs = {1: (0.2, 0.5, 0.8), 2: (0.35, 0.65, 0.5), 3: (0.5, 0.5, 0.5)}[lines]
    boxes = torch.tensor([[x, y, 0.2, 0.1, 0.0] for x, y in zip(xs, ys, strict=True)])
    placed, _ = typeset(("HALF", "PAST", "NINE"), boxes, [0, 0, 0])
    assert len({round(y, 3) for y in placed[:, 1].tolist()}) == lines


@pytest.mark.parametrize(("edges", "align"), [((0.0, 0.0), "left"), ((0.25, 0.25), "centre"), ((0.5, 0.5), "right")])
def test_lines_are_aligned_as_the_boxes_are(edges, align):
    share = edges[0] / 0.5  # of the free space, before a short line
    boxes = torch.tensor([[0.5, 0.4, 0.6, 0.1, 0.0], [0.2 + 0.08 + share * 0.44, 0.6, 0.16, 0.1, 0.0]])
    placed, _ = typeset(("ELEPHANTS", "AT"), boxes, [0, 0])
    free = placed[0, 2] - placed[1, 2]
    before = (placed[1, 0] - placed[1, 2] / 2) - (placed[0, 0] - placed[0, 2] / 2)
    assert before / free == pytest.approx(share, abs=0.02), align


def test_a_phrase_that_is_too_large_for_the_frame_is_shrunk():
    boxes = torch.tensor([[0.5, 0.5, 1.4, 0.5, 0.0]])
    placed, _ = typeset(("ELEPHANTS",), boxes, [0])
    assert placed[0, 2] == pytest.approx(0.93)  # a margin of 0.035 on each side


def test_phrases_are_moved_apart_as_wholes():
    boxes = torch.tensor([[0.5, 0.45, 0.4, 0.1, 0.0], [0.5, 0.55, 0.4, 0.1, 0.0], [0.5, 0.5, 0.4, 0.1, 0.0]])
    placed, moved = typeset(("ABOVE", "BELOW", "BETWEEN"), boxes, [0, 0, 1])
    assert moved == 3
    alone, _ = typeset(("ABOVE", "BELOW"), boxes[:2], [0, 0])
    apart, together = placed[1] - placed[0], alone[1] - alone[0]
    scale = placed[0, 2] / alone[0, 2]
    assert apart[:2].tolist() == pytest.approx((together[:2] * scale).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "boxes",
    [
        [[0.3, 0.5, 0.2, 0.1, 0.0], [0.7, 0.5, 0.2, 0.1, 1.2]],
        [[0.3, 0.5, 0.2, 0.0, 0.0], [0.7, 0.5, 0.2, 0.1, 0.0]],
        [[0.3, 0.5, 0.2, math.nan, 0.0], [0.7, 0.5, 0.2, 0.1, 0.0]],
    ],
    ids=["turned apart", "no area", "not a number"],
)
def test_boxes_that_cannot_be_followed_are_left(boxes):
    given = torch.tensor(boxes)
    placed, moved = typeset(("HALF", "PAST"), given, [0, 0])
    assert torch.equal(placed.nan_to_num(9), given.nan_to_num(9))
    assert moved == 0


def test_a_font_of_its_own_has_other_proportions():
    box = torch.tensor([[0.5, 0.5, 0.4, 0.2, 0.0]])
    usual, own = (typeset(("illicit",), box, [0], fonts)[0] for fonts in ((), ("mono",)))
    assert not torch.allclose(usual[0, 2] / usual[0, 3], own[0, 2] / own[0, 3], rtol=0.05)


def test_many_words_in_one_phrase_stay_in_their_lines():
    """With too many places to break, not all ways are tried."""
    words = tuple(f"w{i}" for i in range(12))
    boxes = torch.tensor([[0.1 + 0.2 * (i % 4), 0.2 + 0.2 * (i // 4), 0.12, 0.08, 0.0] for i in range(12)])
    placed, _ = typeset(words, boxes, [0] * 12)
    assert len({round(y, 2) for y in (placed[:, 1] + placed[:, 3] / 2).tolist()}) == 3


def test_a_drawn_word_fills_its_box_without_being_stretched():
    placed, _ = typeset(("TYPE",), torch.tensor([[0.5, 0.5, 0.3, 0.3, 0.0]]), [0])
    drawn = Rasterizer()(Layout(("TYPE",), placed), (SIDE, SIDE))[0] > 127
    rows, columns = drawn.any(1).nonzero(), drawn.any(0).nonzero()
    width, height = (int(each.max() - each.min()) + 1 for each in (columns, rows))
    assert width / height == pytest.approx(ratios_of_ink(("TYPE",))[0], rel=0.05)
