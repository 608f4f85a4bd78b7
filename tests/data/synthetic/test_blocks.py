from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vlad_lightning.data.synthetic.blocks import Block, fitted_block
from vlad_lightning.data.synthetic.lettering import FONTS, measured, room_for

PLAIN = {"font": FONTS[1], "pixels": 16, "colour": "red", "width": 0.5, "height": 0.2, "space": 0.5, "pitch": 1.3}


def block(*lines, angle=0.0, align=0.0):
    return Block(lines=lines, angle=angle, align=align, **PLAIN)


@pytest.mark.parametrize("angle", [0.0, 0.1, -0.1])
def test_the_ink_of_a_block_is_centred_and_read_along_its_lines(angle):
    phrase = block(("BIG", "jump"), angle=angle).at(0.4, 0.6, 64)
    corners = np.concatenate([word.quad() for word in phrase.words]) - (0.4, 0.6)
    upright = corners @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.allclose(upright.min(axis=0), -upright.max(axis=0), atol=1e-9)
    assert phrase.words[0].x < phrase.words[1].x
    assert phrase.text == "BIG jump"


def test_words_of_a_line_share_a_baseline_and_lines_follow_below():
    phrase = block(("HE", "xo"), ("IT",)).at(0.5, 0.5, 256)
    high, low, next_line = (word.box for word in phrase.words)
    assert low[3] == pytest.approx(high[3], abs=2 / 256)  # `xo` has no ink below the baseline
    assert low[1] > high[1]
    assert next_line[1] > high[3]
    assert next_line[1] - high[1] == pytest.approx(1.3 * 16 / 256, abs=2 / 256)


def test_words_of_a_line_are_a_space_apart():
    first, second = block(("BIG", "jump")).at(0.5, 0.5, 64).words
    assert second.box[0] - first.box[2] == pytest.approx(0.5 * 16 / 64)


def test_lines_of_a_block_are_as_far_apart_as_their_leading_says():
    """At least a fifth of the font size is free between lines; blocks with larger letters are at most 0.55 high."""
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(200):
        found = fitted_block(rng, 256, ["Happy", "BIRTHDAY", "Anna", "JOY"], "red", 0.4, 12)
        if found is None:
            continue
        assert found.height <= 0.55 + 1e-9 or found.pixels == math.ceil(0.09 * 256)
        words = iter(found.at(0.5, 0.5, 256).words)
        lines = [[next(words).box for _ in line] for line in found.lines]
        gaps = [min(b[1] for b in low) - max(b[3] for b in high) for high, low in itertools.pairwise(lines)]
        assert min(gaps) * 256 >= 0.2 * found.pixels - 2
        assert min(gaps) * 256 <= 0.4 * found.pixels + 2  # the two closest lines
        seen += found.pixels > math.ceil(0.09 * 256)
    assert seen > 30


@pytest.mark.parametrize(("align", "edge"), [(0.0, 0), (1.0, 2)])
def test_lines_are_aligned_left_and_right(align, edge):
    phrase = block(("LONGER",), ("i",), align=align).at(0.5, 0.5, 64)
    assert phrase.words[0].box[edge] == pytest.approx(phrase.words[1].box[edge])


def test_lines_are_centred():
    phrase = block(("LONGER",), ("i",), align=0.5).at(0.5, 0.5, 64)
    assert phrase.words[0].x == pytest.approx(phrase.words[1].x)


def test_blocks_fit_and_only_single_lines_are_tilted():
    rng = np.random.default_rng(0)
    tilted = lines = 0
    for _ in range(300):
        texts = ["Happy", "BIRTHDAY", "Anna"][: rng.integers(1, 4)]
        found = fitted_block(rng, 64, texts, "red", 0.4, 12)
        if found is None:
            continue
        assert list(itertools.chain(*found.lines)) == texts
        assert max(map(len, found.lines)) <= 2
        assert max(found.extent) <= 0.93 + 1e-9
        assert 12 <= found.pixels <= 0.4 * 64
        assert not found.angle or len(found.lines) == 1
        left, top, right, bottom = found.at(0.5, 0.5, 64).box
        assert right - left <= found.extent[0] + 1 / 64
        assert bottom - top <= found.extent[1] + 1 / 64
        tilted += bool(found.angle)
        lines += len(found.lines) > 1
    assert min(tilted, lines) > 30


def test_a_word_that_is_too_long_never_fits():
    assert fitted_block(np.random.default_rng(0), 64, ["W" * 12], "red", 0.4, 12) is None


@pytest.mark.parametrize("font", FONTS)
def test_measured_sizes_equal_the_drawn_word_or_slightly_more(font):
    for text in ("Type", "AVAV", "WAVE", "0 1", "ijl"):
        width, top, bottom = measured(text, font)
        assert room_for(text, font, 128)[0] / 128 <= width + 0.1
        assert width <= room_for(text, font, 128)[0] / 128 + 0.15 * len(text)
        assert 0 <= top < bottom <= 1.3
