import math
import os
import pickle
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from vlad_lightning.layout.fonts import can_shape
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.types import Layout

rasterizer = Rasterizer()


def draw(layout, size, by=rasterizer):
    """Draw the (3, H, W) picture that a network gets."""
    return glyph_images(by(layout, size)[None])[0]


def layout(*boxes, words=None):
    return Layout(tuple(words or ["HELLO"] * len(boxes)), torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5))


def ink_extent(picture, threshold=0.0):
    rows, columns = torch.nonzero(picture[0] > threshold, as_tuple=True)
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]


@pytest.mark.parametrize("size", [64, 128, 512])
@pytest.mark.parametrize("word", ["HELLO", "one", "gypsy", "I", "-", "Ångström", "WIDEWORDWIDE"])
def test_the_ink_fills_an_upright_box(size, word):
    picture = draw(layout([0.5, 0.4, 0.75, 0.25, 0.0], words=[word]), (size, size))
    expected = [size * f for f in (0.125, 0.275, 0.875, 0.525)]
    assert ink_extent(picture) == pytest.approx(expected, abs=1.01)


def test_the_ink_fills_a_box_in_a_frame_that_is_not_square():
    picture = draw(layout([0.5, 0.5, 0.5, 0.5, 0.0]), (40, 120))
    assert picture.shape == (3, 40, 120)
    assert ink_extent(picture) == pytest.approx([30, 10, 90, 30], abs=1.01)


def test_the_picture_is_white_on_black():
    picture = draw(layout([0.5, 0.5, 0.8, 0.3, 0.0]), (64, 64))
    assert picture.shape == (3, 64, 64)
    assert picture.dtype == torch.float32
    assert picture.min() == -1
    assert picture.max() == 1
    assert torch.equal(picture[0], picture[1])
    assert torch.equal(picture[0], picture[2])
    assert ((picture > -0.9) & (picture < 0.9)).any(), "the edges are antialiased"


def test_a_glyph_map_is_stored_as_bytes_and_each_level_has_its_image():
    drawn = rasterizer(layout([0.5, 0.5, 0.8, 0.3, 0.0]), (64, 48))
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (1, 64, 48))
    levels = torch.arange(256, dtype=torch.uint8).view(2, 1, 16, 8)
    images = glyph_images(levels)
    expected = torch.tensor([np.float32(np.float32(level) / np.float32(127.5)) - np.float32(1) for level in range(256)])
    assert (images.dtype, images.shape) == (torch.float32, (2, 3, 16, 8))
    for channel in range(3):
        assert torch.equal(images[:, channel].flatten(), expected)


def test_a_full_block_covers_exactly_its_box():
    # U+2588 fills its cell: the drawn area must equal the area of the box at any position between the pixels.
    for angle in (0.0, 0.3, 2.5):
        picture = draw(layout([0.4871, 0.5123, 0.5, 0.2, angle], words=["█"]), (128, 128))
        assert (picture[0] + 1).sum().item() / 2 == pytest.approx(0.1 * 128**2, rel=0.01)


@pytest.mark.parametrize("angle", [0.4, -0.7, math.pi / 2, math.pi, -3.0])
@pytest.mark.parametrize("size", [64, 512])
def test_the_ink_of_a_turned_box_lies_inside_it(angle, size):
    word = layout([0.5, 0.5, 0.6, 0.2, angle])
    picture = draw(word, (size, size))
    rows, columns = torch.nonzero(picture[0] > 0, as_tuple=True)
    centres = torch.stack([columns + 0.5, rows + 0.5], dim=1)
    corners = word.quads()[0] * size
    outline = Polygon(torch.cat([corners, corners[:1]]).numpy(), closed=True)
    inside = outline.contains_points(centres.numpy(), radius=1.0) | outline.contains_points(
        centres.numpy(), radius=-1.0
    )
    assert inside.all()
    share = len(rows) / (0.6 * 0.2 * size**2)
    assert 0.35 < share < 0.85, "letters cover about half of their box"


def test_turning_a_box_by_a_right_angle_turns_the_picture():
    upright = draw(layout([0.5, 0.5, 0.8, 0.2, 0.0], words=["LEFT"]), (64, 64))
    down = draw(layout([0.5, 0.5, 0.8, 0.2, math.pi / 2], words=["LEFT"]), (64, 64))
    over = draw(layout([0.5, 0.5, 0.8, 0.2, math.pi], words=["LEFT"]), (64, 64))
    # Clockwise on screen: torch.rot90 turns counter-clockwise for rows that grow downwards.
    assert torch.allclose(down, torch.rot90(upright, -1, (1, 2)), atol=0.05)
    assert torch.allclose(over, torch.rot90(upright, 2, (1, 2)), atol=0.05)
    assert not torch.allclose(over, upright, atol=0.5)


def test_the_resolution_does_not_change_the_picture():
    word = layout([0.45, 0.52, 0.7, 0.3, 0.2])
    small = draw(word, (64, 64))[None]
    large = torch.nn.functional.avg_pool2d(draw(word, (512, 512))[None], 8)
    assert (small - large).abs().mean() < 0.02
    assert (small - large).abs().max() < 0.5


def test_the_same_layout_gives_the_same_picture():
    word = layout([0.45, 0.52, 0.7, 0.3, 0.2], [0.5, 0.8, 0.5, 0.1, -0.1])
    first = draw(word, (64, 64))
    assert torch.equal(first, draw(word, (64, 64)))
    assert torch.equal(first, draw(word, (64, 64), pickle.loads(pickle.dumps(rasterizer))))


def test_overlapping_words_show_the_brighter():
    a, b = [0.4, 0.5, 0.6, 0.3, 0.1], [0.6, 0.5, 0.5, 0.4, -0.2]
    one, other = draw(layout(a), (64, 64)), draw(layout(b), (64, 64))
    assert torch.equal(draw(layout(a, b), (64, 64)), torch.maximum(one, other))


def test_the_frame_cuts_off_parts_outside():
    wide = draw(layout([0.5, 0.5, 2.0, 0.5, 0.0], words=["███"]), (64, 64))
    assert ink_extent(wide)[0] == 0
    assert ink_extent(wide)[2] == 64
    # The right half of a box that sticks out to the left is the left part of the frame.
    whole = draw(layout([0.5, 0.5, 1.0, 0.5, 0.0]), (64, 64))
    half = draw(layout([0.0, 0.5, 1.0, 0.5, 0.0]), (64, 64))
    assert torch.equal(half[..., :32], whole[..., 32:])
    assert (draw(layout([3.0, 0.5, 1.0, 0.5, 0.3]), (64, 64)) == -1).all()


@pytest.mark.parametrize(
    "nothing",
    [
        Layout.empty(),
        layout([0.5, 0.5, 0.5, 0.2, 0.0], words=[""]),
        layout([0.5, 0.5, 0.5, 0.2, 0.0], words=[" \n\t"]),
        layout([0.5, 0.5, 0.5, 0.2, 0.0], words=["\u200b"]),
        layout([0.5, 0.5, 0.0, 0.2, 0.0]),
        layout([0.5, 0.5, 0.5, 0.0, 1.0]),
        layout([0.5, math.nan, 0.5, 0.2, 0.0]),
        layout([0.5, 0.5, math.inf, 0.2, 0.0]),
    ],
)
def test_invisible_words_draw_nothing(nothing):
    assert (draw(nothing, (64, 48)) == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=30),
    st.tuples(*[st.floats(-2, 3, width=32)] * 2, *[st.floats(0, 1e4, width=32)] * 2, st.floats(-4, 4, width=32)),
)
def test_any_word_in_any_box_can_be_drawn(word, box):
    picture = draw(layout(box, words=[word]), (32, 48))
    assert picture.shape == (3, 32, 48)
    assert picture.min() >= -1
    assert picture.max() <= 1


def test_an_endless_word_is_drawn():
    assert draw(layout([0.5, 0.5, 0.9, 0.3, 0.0], words=["W" * 50_000]), (64, 64)).max() > -1


def test_another_font_draws_other_letters():
    serif = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf"))
    word = layout([0.5, 0.5, 0.8, 0.3, 0.0])
    assert (draw(word, (64, 64), Rasterizer(font=serif)) - draw(word, (64, 64))).abs().mean() > 0.01


def test_a_layout_may_name_a_font_for_each_word():
    serif = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf"))
    boxes = [[0.5, 0.25, 0.8, 0.3, 0.0], [0.5, 0.75, 0.8, 0.3, 0.0]]
    words = layout(*boxes)
    mixed = draw(Layout(words.words, words.boxes, (serif, None)), (64, 64))
    assert torch.equal(mixed[:, :32], draw(words, (64, 64), Rasterizer(serif))[:, :32])
    assert torch.equal(mixed[:, 32:], draw(words, (64, 64))[:, 32:])
    with pytest.raises(ValueError, match="fonts has 1 entries"):
        Layout(words.words, words.boxes, (serif,))


@pytest.mark.skipif(not can_shape(), reason="Pillow finds no FriBidi here, so it cannot shape")
def test_arabic_is_drawn_joined_and_from_right_to_left():
    picture = draw(layout([0.5, 0.5, 0.9, 0.6, 0.0], words=["مام"]), (128, 128))[0] > 0
    # meem, alef, meem: the alef joins the first meem, on its right, and not the last one, on its left
    rows, columns = torch.nonzero(picture, as_tuple=True)
    gap = [x for x in range(columns.min(), columns.max()) if not picture[:, x].any()]
    stroke = columns[rows <= rows.min() + 5]  # only the alef is so high
    assert gap
    assert max(gap) < stroke.min(), "the gap is left of the tall stroke"


def test_words_are_checked_with_the_fonts_that_draw_them():
    serif = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf"))
    everything = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "LastResortHE-Regular.ttf"))
    rasterizer.check(["HELLO", "中"], [None, everything])
    Rasterizer(everything).check(["中"])
    with pytest.raises(ValueError, match=r"DejaVuSerif\.ttf has no glyph for '中'"):
        rasterizer.check(["HELLO", "中"], [None, serif])
    assert draw(layout([0.5, 0.5, 0.5, 0.5, 0.0], words=["中"]), (32, 32)).max() > 0, "noise in data is still drawn"


def test_an_endless_word_is_refused_by_check_and_drawn_in_part_from_data():
    for length in (1_025, 5_000_000):
        with pytest.raises(ValueError, match=f"the word 'AAAAAAAAAAAAAAAAAAAA'... has {length:,} characters"):
            rasterizer.check(["A" * length])
    assert draw(layout([0.5, 0.5, 0.9, 0.9, 0.0], words=["A" * 5_000_000]), (32, 32)).max() > 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_endless_font_file_is_refused(tmp_path, kind):
    path = tmp_path / "font.ttf"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"font='.*ttf' cannot be read .*no regular file"):
        Rasterizer(font=str(path))


def test_a_file_that_is_not_a_font_is_refused(tmp_path):
    text = tmp_path / "font.ttf"
    text.write_text("no font")
    for path in (str(text), str(tmp_path / "missing.ttf")):
        with pytest.raises(ValueError, match=r"font='.*ttf'.*TrueType"):
            Rasterizer(font=path)


def test_a_size_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"size=\(0, 64\)"):
        draw(Layout.empty(), (0, 64))
    with pytest.raises(ValueError, match=r"size=\(64, 1000000\): height and width must lie in 1 to 4,096 pixels"):
        draw(Layout.empty(), (64, 10**6))
