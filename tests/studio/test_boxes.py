from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.studio.boxes import edited_layout, editor_value, region_mask, regions_of
from vlad_lightning.types import Layout

LAYOUT = Layout(
    ("BIG", "SALE"),
    torch.tensor([[0.5, 0.2, 0.8, 0.2, 0.1], [0.4, 0.6, 0.5, 0.15, -0.7]]),
    ("serif", None),
    ("a red star",),
    torch.tensor([[0.7, 0.8, 0.2, 0.3, 3.0]]),
    colours=(None, "#ff8000"),
)


def box(kind: str = "word", text: str = "HI", **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "text": text, "x": 0.5, "y": 0.5, "w": 0.4, "h": 0.2, "angle": 0.0} | changes


def value(*boxes: Any, width: Any = 100, height: Any = 100) -> dict[str, Any]:
    return {"width": width, "height": height, "boxes": list(boxes)}


@pytest.mark.parametrize("size", [(128, 128), (300, 200), (97, 1000)])
def test_a_layout_comes_back_unchanged_as_json(size: tuple[int, int]) -> None:
    sent = json.loads(json.dumps(editor_value(LAYOUT, size)))
    found = edited_layout(sent, "a prompt")
    assert (found.width, found.height, found.prompt) == (*size, "a prompt")
    assert found.layout.words == LAYOUT.words
    assert found.layout.objects == LAYOUT.objects
    assert found.layout.fonts == LAYOUT.fonts
    assert found.layout.colours == LAYOUT.colours
    assert torch.equal(found.layout.boxes, LAYOUT.boxes)
    torch.testing.assert_close(found.layout.object_boxes, LAYOUT.object_boxes)


_FRACTIONS = st.floats(0.05, 0.95)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_FRACTIONS, _FRACTIONS, _FRACTIONS, _FRACTIONS, st.floats(-3.1, 3.1)), max_size=5))
def test_any_boxes_come_back_as_they_were_drawn(rows: list[tuple[float, ...]]) -> None:
    drawn = [box(x=x, y=y, w=w, h=h, angle=angle) for x, y, w, h, angle in rows]
    found = edited_layout(value(*drawn)).layout
    torch.testing.assert_close(found.boxes, torch.tensor(rows).reshape(len(rows), 5), atol=1e-6, rtol=1e-6)


def test_regions_are_white_in_the_mask_and_no_part_of_the_layout() -> None:
    drawn = value(box(), box("region", "region", x=0.25, y=0.5, w=0.5, h=1.0), width=40, height=20)
    mask = region_mask(drawn)
    assert mask is not None
    assert mask.size == (40, 20)
    pixels = np.asarray(mask)
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 22:] == 0).all()
    assert edited_layout(drawn).layout.words == ("HI",)
    assert regions_of(drawn) == [drawn["boxes"][1]]
    assert region_mask(value(box())) is None


def test_the_palette_is_shown_and_font_files_are_not() -> None:
    layout = Layout(("A",), torch.tensor([[0.5, 0.5, 0.2, 0.2, 0.0]]), ("/somewhere/private.ttf",))
    shown = editor_value(layout, (8, 8))
    assert "private" not in json.dumps(shown)
    assert shown["colours"]["red"] == "#d72328"
    assert shown["fonts"] == ["sans", "serif", "mono", "hand"]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (None, "the editor's boxes are None; they must be a list"),
        ({"width": 8, "height": 8, "boxes": "x"}, "the editor's boxes are 'x'; they must be a list"),
        (value(width=0), "the editor's frame is 0 x 100; it must have whole pixels"),
        (value(width=10**6, height=10**6), "the editor's frame is 1000000 x 1000000"),
        (value(*[box()] * 1001), "they must be a list of at most 1,000"),
        (value("x"), "the editor has the box 'x'; it must have a kind and a text"),
        (value(box("circle")), "it must have a kind and a text"),
        (value(box(x="1")), "they must be finite"),
        (value(box(w=math.nan)), "they must be finite"),
        (value(box(text=" ")), "a box of kind word has no text; give it one, or remove it"),
        (value(box(font="/etc/passwd")), "the word 'HI' has the font '/etc/passwd'; allowed are sans, serif"),
        (value(box(colour="shiny")), r"words\[0\].colour is 'shiny'; allowed are red"),
        (value(box("object", "a red star and a ring")), r"objects\[0\].phrase is 'a red star and a ring'; it must be"),
        (value(box(x=3.0)), r"words\[0\].quad .* lies outside the frame"),
        (value(box(w=0.0)), "the corners must run clockwise around an area"),
    ],
)
def test_a_value_that_no_editor_sends_is_refused_by_name(sent: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edited_layout(sent)


def test_an_edited_layout_is_saved_and_loaded_as_a_layout_file(tmp_path: Any) -> None:
    path = tmp_path / "layout.json"
    edited_layout(editor_value(LAYOUT, (512, 512))).save(path)
    loaded = LayoutFile.load(path)
    assert loaded.layout.words == LAYOUT.words
    torch.testing.assert_close(loaded.layout.boxes, LAYOUT.boxes, atol=1e-4, rtol=0)
