from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vlad_lightning.data.mario import CHARACTERS, character_class
from vlad_lightning.data.scene_file import WordStyle
from vlad_lightning.data.synthetic.lettering import (
    FAMILIES,
    FONTS,
    draw_classes,
    draw_ink,
    fineness,
    room_for,
    style_of,
)

ALL_FONTS = sorted({*FONTS, *(font for fonts in FAMILIES.values() for font in fonts)})


@pytest.mark.parametrize("font", ALL_FONTS)
def test_the_ink_fills_its_box(font):
    ink = np.asarray(draw_ink("Agh7", font, 60).image)
    room = room_for("Agh7", font, 60)
    assert ink.max() == 255
    for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
        assert edge.any()
    assert 0.85 * room[0] < ink.shape[1] <= room[0]
    assert 0.85 * room[1] < ink.shape[0] <= room[1]


@pytest.mark.parametrize("font", ALL_FONTS)
def test_classes_follow_the_characters_from_left_to_right(font):
    classes = np.asarray(draw_classes("Bo0x", font, 60))
    centres = {c: np.nonzero(classes == character_class(c))[1].mean() for c in "Bo0x"}
    assert sorted(centres, key=lambda c: centres[c]) == list("Bo0x")
    assert set(np.unique(classes)) == {0, *map(character_class, "Bo0x")}


def test_a_single_character_has_the_same_class_as_in_a_word():
    alone = np.asarray(draw_classes("O", "DejaVuSansMono.ttf", 80))
    word = np.asarray(draw_classes("OO", "DejaVuSansMono.ttf", 80))
    assert np.count_nonzero(word) == pytest.approx(2 * np.count_nonzero(alone), rel=0.02)


@pytest.mark.parametrize(("size", "scale"), [(48, 5), (64, 4), (128, 2), (256, 1), (512, 1)])
def test_small_posters_are_drawn_at_a_higher_resolution(size, scale):
    assert fineness(size) == scale


def test_the_style_of_a_phrase():
    assert style_of(["BIG", "SALE"], "cmb10.ttf", 0.3) == WordStyle("serif", "upper", "big")
    assert style_of(["Now", "50"], "Intuitive.ttf", 0.15) == WordStyle("hand", "title", "medium")
    assert style_of(["2025"], "DejaVuSansMono.ttf", 0.1) == WordStyle("mono", "none", "small")


def test_a_missing_font_is_named_in_one_line():
    code = (
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'font_intuitive' else find(name, *rest)\n"
        "from vlad_lightning.data.synthetic.lettering import load_font\n"
        "load_font('Intuitive.ttf', 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("FileNotFoundError: font-intuitive is not installed")


def test_characters_are_marios_95():
    assert len(set(CHARACTERS)) == 95
    assert [character_class(c) for c in "09azAZ! "] == [1, 10, 11, 36, 37, 62, 63, 95]
