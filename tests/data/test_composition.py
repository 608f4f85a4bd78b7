from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from vlad_lightning.data.composition import MIN_CONTRAST, MIN_PIXELS, compose, shade, text_colours
from vlad_lightning.data.scene import SHAPES, Scene, boxes_touch
from vlad_lightning.models.colours import PALETTE, contrast, nearest_colour

SCENES = [compose(np.random.default_rng([5, i]), 64, False) for i in range(300)]


def test_letters_stand_out_from_all_that_lies_below():
    for scene in SCENES:
        for word in scene.words:
            below = [PALETTE[o.colour] for o in scene.objects if boxes_touch(o.box, word.box)]
            ratios = [contrast(PALETTE[word.colour], rgb) for rgb in (*scene.background.shades, *below)]
            assert min(ratios) >= MIN_CONTRAST


def test_words_and_objects_keep_inside_the_frame_and_apart():
    for scene in SCENES:
        for thing in (*scene.words, *scene.objects):
            left, top, right, bottom = thing.box
            assert min(left, top) > 0.02
            assert max(right, bottom) < 0.98
        for group in (scene.words, scene.objects):
            assert not any(boxes_touch(a.box, b.box) for a, b in itertools.combinations(group, 2))


def test_words_are_different_and_in_regions_of_their_own():
    for scene in SCENES:
        assert len({w.text.casefold() for w in scene.words}) == len(scene.words)
        assert len({w.region for w in scene.words}) == len(scene.words)


def test_no_object_has_the_colour_of_the_background_or_of_another():
    for scene in SCENES:
        colours = [o.colour for o in scene.objects]
        assert len(set(colours)) == len(colours)
        assert scene.background.colour not in colours


def test_all_kinds_of_scenes_come_up():
    assert set(Counter(len(s.words) for s in SCENES)) == {1, 2, 3, 4}
    assert set(Counter(len(s.objects) for s in SCENES)) == {1, 2, 3, 4}
    assert {s.background.kind for s in SCENES} == {"solid", "gradient", "striped", "dotted", "noisy"}
    assert {s.background.colour for s in SCENES} == set(PALETTE)
    assert {o.shape for s in SCENES for o in s.objects} == set(SHAPES)
    assert len({w.region for s in SCENES for w in s.words}) == 9
    assert any(w.angle > 0.1 for s in SCENES for w in s.words)
    assert any(w.angle < -0.1 for s in SCENES for w in s.words)


def test_letters_are_large_enough_to_be_read():
    assert min(w.pixels for s in SCENES for w in s.words) >= MIN_PIXELS


def test_both_shades_belong_to_the_named_colour():
    for scene in SCENES:
        assert {nearest_colour(rgb) for rgb in scene.background.shades} == {scene.background.colour}


@pytest.mark.parametrize("size", [48, 100, 256])
def test_other_sizes_compose_too(size):
    scenes = [compose(np.random.default_rng([1, i]), size, True) for i in range(10)]
    assert all(isinstance(s, Scene) and s.words and s.objects for s in scenes)


def test_shade_mixes_towards_black_and_white():
    assert shade("gray", 0.0) == PALETTE["gray"]
    assert shade("gray", -0.5) == (64, 64, 64)
    assert shade("gray", 1.0) == (255, 255, 255)


def test_text_colours_are_those_with_enough_contrast_to_all_shades():
    assert dict(text_colours((0, 0, 0), (255, 255, 255))) == {
        name: low
        for name, rgb in PALETTE.items()
        if (low := min(contrast(rgb, (0, 0, 0)), contrast(rgb, (255, 255, 255)))) >= MIN_CONTRAST
    }
    assert "white" in text_colours(PALETTE["blue"])
    assert "blue" not in text_colours(PALETTE["blue"])
