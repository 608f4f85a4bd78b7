from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.data.mario import CHARACTERS, character_class
from vlad_lightning.data.synthetic.lettering import FONTS, draw_classes, draw_ink, fineness, room_for


@pytest.mark.parametrize("font", FONTS)
def test_the_ink_fills_its_box(font):
    ink = np.asarray(draw_ink("Agh7", font, 60).image)
    room = room_for("Agh7", font, 60)
    assert ink.max() == 255
    for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
        assert edge.any()
    assert 0.85 * room[0] < ink.shape[1] <= room[0]
    assert 0.85 * room[1] < ink.shape[0] <= room[1]


@pytest.mark.parametrize("font", FONTS)
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


def test_characters_are_marios_95():
    assert len(set(CHARACTERS)) == 95
    assert [character_class(c) for c in "09azAZ! "] == [1, 10, 11, 36, 37, 62, 63, 95]
