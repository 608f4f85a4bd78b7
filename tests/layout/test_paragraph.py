from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import get_data_path

from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.ink import ink_of
from vlad_lightning.layout.paragraph import paragraph
from vlad_lightning.types import Layout

QUAD = torch.tensor([[0.1, 0.2], [0.9, 0.2], [0.9, 0.8], [0.1, 0.8]])
SERIF = str(Path(get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf"))


def edges(layout: Layout) -> list[list[float]]:
    """Return left, top, right and bottom of upright boxes."""
    quads = layout.quads()
    return torch.cat([quads[:, 0], quads[:, 2]], dim=1).tolist()


@pytest.mark.parametrize("align", ["left", "centre", "right"])
def test_lines_are_stacked_inside_the_box_and_fill_it(align: Any) -> None:
    layout = paragraph("SUMMER\nSALE\nNOW", QUAD, align)
    assert layout.words == ("SUMMER", "SALE", "NOW")
    lines = edges(layout)
    for left, top, right, bottom in lines:
        assert left >= 0.1 - 1e-5
        assert right <= 0.9 + 1e-5
        assert top >= 0.2 - 1e-5
        assert bottom <= 0.8 + 1e-5
    assert all(above[3] < below[1] for above, below in pairwise(lines))
    filled = max(line[2] - line[0] for line in lines) / 0.8, (lines[-1][3] - lines[0][1]) / 0.6
    assert max(filled) == pytest.approx(1, abs=1e-4)
    assert (lines[0][1] + lines[-1][3]) / 2 == pytest.approx(0.5, abs=1e-4)


def test_alignment_moves_the_shorter_lines() -> None:
    wide = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.5, 0.9], [0.0, 0.9]])  # high: the widest line fills the width
    ends = {align: edges(paragraph("SUMMERTIME\nI", wide, align)) for align in ("left", "centre", "right")}  # type: ignore[arg-type]
    assert ends["left"][1][0] == pytest.approx(0, abs=1e-5)
    assert ends["right"][1][2] == pytest.approx(0.5, abs=1e-5)
    assert sum(ends["centre"][1][::2]) / 2 == pytest.approx(0.25, abs=1e-5)
    assert all(lines[0] == pytest.approx(ends["left"][0], abs=1e-5) for lines in ends.values())


def test_all_lines_have_letters_of_one_size() -> None:
    upper, lower = edges(paragraph("HHH\nxxx", QUAD))
    with_x, with_h = (line[3] - line[1] for line in (lower, upper))
    assert with_x / with_h == pytest.approx(0.75, abs=0.06)  # x-height by cap height of DejaVu Sans Bold


def test_a_blank_line_leaves_a_gap() -> None:
    close, apart = (edges(paragraph(text, QUAD)) for text in ("A\nB", "A\n\nB"))
    assert len(apart) == 2
    gaps = [(lines[1][1] - lines[0][3]) / (lines[0][3] - lines[0][1]) for lines in (close, apart)]
    assert gaps[1] > gaps[0] + 1


def test_wrapping_finds_the_breaks_with_the_largest_letters() -> None:
    """Compare with every way to break five words."""
    words = ["the", "quick", "brown", "fox", "jumps"]
    best = 0.0
    for breaks in range(2 ** (len(words) - 1)):
        text = words[0]
        for i, word in enumerate(words[1:]):
            text += ("\n" if breaks >> i & 1 else " ") + word
        lines = paragraph(text, QUAD)
        best = max(best, letter_size(lines))
    wrapped = paragraph(" ".join(words), QUAD, wrap=True)
    assert " ".join(wrapped.words) == " ".join(words)
    assert len(wrapped) > 1
    assert letter_size(wrapped) > 0.9 * best  # the search measures whole lines, the drawing their ink


def letter_size(layout: Layout) -> float:
    """Return the width of a line divided by that of its text, which is equal for all lines."""
    one = paragraph(layout.words[0], torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 9.0], [0.0, 9.0]])).boxes[0]
    return float(layout.boxes[0, 3] / one[3])


def test_wrapping_keeps_the_breaks_it_is_given() -> None:
    assert paragraph("A\nB C", QUAD, wrap=True).words[0] == "A"


def test_chinese_breaks_between_characters_but_not_before_a_comma() -> None:
    high = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.2, 1.0], [0.0, 1.0]])
    text = "中文字体、排版"
    lines = paragraph(text, high, wrap=True).words
    assert len(lines) > 2
    assert "".join(lines) == text
    assert not any(line.startswith("、") for line in lines)


def test_a_turned_box_turns_its_lines() -> None:
    turn = torch.tensor([[math.cos(0.5), math.sin(0.5)], [-math.sin(0.5), math.cos(0.5)]])
    upright, turned = paragraph("A\nBBB", QUAD), paragraph("A\nBBB", (QUAD - 0.5) @ turn + 0.5)
    expected = (upright.quads() - 0.5) @ turn + 0.5
    torch.testing.assert_close(turned.quads(), expected, atol=1e-5, rtol=1e-5)


def test_the_font_is_measured_and_kept_in_the_layout() -> None:
    plain, serif = paragraph("Wide\nil", QUAD), paragraph("Wide\nil", QUAD, font=SERIF)
    assert plain.fonts == ()
    assert serif.fonts == (SERIF, SERIF)
    assert not torch.allclose(plain.boxes, serif.boxes, atol=1e-3)


def test_a_paragraph_is_drawn_in_its_natural_proportions() -> None:
    """The rasterizer stretches ink to its box; here this must not be needed."""
    layout = paragraph("Wi", QUAD)
    picture = Rasterizer()(layout, (256, 256))[0] > 127
    rows, columns = torch.nonzero(picture, as_tuple=True)
    drawn = (columns.max() - columns.min() + 1) / (rows.max() - rows.min() + 1)
    from vlad_lightning.layout.fonts import load_font

    left, top, right, bottom = load_font(None, 256).getbbox("Wi", anchor="ls")
    assert float(drawn) == pytest.approx((right - left) / (bottom - top), rel=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " \n"}, "a paragraph needs a word"),
        ({"align": "middle"}, "align is 'middle'; allowed are left, centre, right"),
        ({"leading": 0.0}, "leading is 0.0; it must be above 0"),
        ({"quad": torch.zeros(4, 2)}, "it must have an area"),
    ],
)
def test_unusable_paragraphs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paragraph(**({"text": "A", "quad": QUAD} | changes))


@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_letters_have_their_proportions_in_frames_that_are_no_squares(ratio: float) -> None:
    ink = ink_of("Wi", None)
    (line,) = paragraph("Wi", QUAD, ratio=ratio).boxes
    assert float(line[2] * ratio / line[3]) == pytest.approx((ink.right - ink.left) / (ink.bottom - ink.top), rel=1e-4)
    words = "one two three four five six"
    wide, narrow = (len(paragraph(words, QUAD, wrap=True, ratio=each)) for each in (4.0, 0.25))
    assert wide < narrow
