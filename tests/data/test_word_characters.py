from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlad_lightning.data.charseg_data import read_charseg
from vlad_lightning.data.mario import UNKNOWN, character_class, read_sample
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.data.word_characters import _borders, character_map
from vlad_lightning.layout.fonts import load_font


def drawn(text, box=(60, 100, 440, 180), ground="white", angle=0.0):
    """Draw a word into a box of 512 x 512, turned around the picture's centre, and return the picture and the word."""
    font = load_font(None, 100)
    bounds = font.getbbox(text)
    ink = Image.new("L", (bounds[2] - bounds[0], bounds[3] - bounds[1]))
    ImageDraw.Draw(ink).text((-bounds[0], -bounds[1]), text, fill=255, font=font)
    left, top, right, bottom = box
    picture = Image.new("RGB", (512, 512), ground)
    picture.paste("black", box, ink.resize((right - left, bottom - top)))
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) / 512 - 0.5
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])  # y points down
    return picture.rotate(angle, fillcolor=ground), OcrWord(text, (corners @ matrix.T + 0.5).astype(np.float32), 1.0)


def shares(found, true):
    """Return which share of the true letters' pixels has its character, and of the found ones' is right."""
    ours, theirs = (found > 0) & (found != UNKNOWN), true > 0
    right = (found == true) & theirs
    return right.sum() / theirs.sum(), right.sum() / ours.sum()


def test_letters_of_posters_are_found_where_they_were_drawn(tmp_path):
    write_posters(tmp_path / "posters", 30, size=512, seed=3)
    folders = sorted((tmp_path / "posters").glob("*/*"))
    samples = [(read_sample(folder), read_charseg(folder)) for folder in folders]
    found = np.stack([character_map(sample.image, sample.words) for sample, _ in samples])
    recall, precision = shares(found, np.stack([true for _, true in samples]))
    assert recall > 0.8
    assert precision > 0.8


@pytest.mark.parametrize("angle", [0, 25, 90, 180])
def test_a_turned_word_is_read_along_its_box(angle):
    picture, word = drawn("ABBA", angle=angle)
    upright = character_map(*_both(drawn("ABBA")))
    found = character_map(*_both((picture, word)))
    turned = np.asarray(Image.fromarray(upright.astype(np.uint8)).rotate(angle))
    recall, precision = shares(found, turned)
    assert recall > 0.9
    assert precision > 0.9
    assert set(np.unique(found)) == {0, character_class("A"), character_class("B")}


def _both(drawn_word):
    return drawn_word[0], [drawn_word[1]]


def test_letters_of_another_font_end_where_there_is_no_ink():
    picture, word = Image.new("RGB", (512, 512), "white"), "iiii"
    pen = ImageDraw.Draw(picture)
    starts = [50, 70, 300, 400]
    for start in starts:  # of no font's widths
        pen.rectangle((start, 200, start + 9, 279), fill="black")
    quad = np.array([(50, 200), (410, 200), (410, 280), (50, 280)], dtype=np.float32) / 512
    found = character_map(picture, [OcrWord(word[:1] + "lil"[: len(starts) - 1], quad, 1.0)])
    row = found[120]
    assert [row[(start + 5) // 2] for start in starts] == [character_class(c) for c in "ilil"]


def test_what_cannot_be_told_is_unknown():
    picture, word = drawn("A漢")
    found = character_map(picture, [word])
    assert set(np.unique(found)) == {0, character_class("A"), UNKNOWN}
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    found = character_map(noise, [word])
    assert set(np.unique(found)) == {0, UNKNOWN}
    assert (found[50:90, 30:220] == UNKNOWN).all()
    assert (found == UNKNOWN).mean() < 0.12


@pytest.mark.parametrize(
    "quad",
    [
        np.full((4, 2), 0.5),
        np.full((4, 2), np.nan),
        np.array([(-3, -3), (4, -3), (4, 4), (-3, 4)]),
        np.array([(2, 2), (3, 2), (3, 3), (2, 3)]),
        np.array([(0.99, 0), (1.5, 0), (1.5, 0.1), (0.99, 0.1)]),
    ],
)
def test_a_box_of_any_shape_is_no_error(quad):
    picture, word = drawn("HELLO")
    found = character_map(picture, [OcrWord("HELLO", quad.astype(np.float32), 1.0), word])
    assert character_class("H") in found
    assert not character_map(picture, []).any()


def test_borders_are_the_cheapest_ones():
    random = np.random.default_rng(1)
    places = np.arange(14) / 13
    for count in (1, 2, 3, 4):
        ink, widths, blank = random.random(13), random.random(count) + 0.2, np.arange(count) == 1
        ink[random.random(13) < 0.4] = 0.0
        widths /= widths.sum()
        cut = np.interp(places, (np.arange(13) + 0.5) / 13, ink)

        def cost(borders, ink=ink, widths=widths, blank=blank, cut=cut, count=count):
            ends = [0, *borders, 13]
            pairs = list(pairwise(ends))
            wrong = sum((ink[a:b].sum() == 0) != is_blank for (a, b), is_blank in zip(pairs, blank, strict=True))
            errors = [(b - a) / 13 - width for (a, b), width in zip(pairs, widths, strict=True)]
            return sum((error * count) ** 2 for error in errors) + 4 * wrong + 4 * sum(cut[b] for b in borders)

        best = min(combinations(range(1, 13), count - 1), key=cost)
        assert np.allclose(_borders(ink, widths, blank), places[list(best)])


def test_more_characters_than_columns_keep_their_widths():
    assert np.allclose(_borders(np.ones(2), np.full(5, 0.2), np.zeros(5, dtype=bool)), [0.2, 0.4, 0.6, 0.8])
