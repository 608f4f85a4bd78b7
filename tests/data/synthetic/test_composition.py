from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from vlad_lightning.data.synthetic.backgrounds import shade
from vlad_lightning.data.synthetic.composition import MAX_WORDS, MIN_PIXELS, compose, text_colours
from vlad_lightning.data.synthetic.scene import Scene
from vlad_lightning.layout.colours import MIN_CONTRAST, PALETTE, contrast, nearest_colours
from vlad_lightning.layout.nouns import SHAPES

SCENES = [compose(np.random.default_rng([5, i]), 64, False) for i in range(300)]


def boxes_touch(a: tuple[float, ...], b: tuple[float, ...], gap: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Return whether two boxes are closer to each other than ``gap`` (horizontal, vertical)."""
    across, down = gap
    return a[0] < b[2] + across and b[0] < a[2] + across and a[1] < b[3] + down and b[1] < a[3] + down


def test_letters_stand_out_from_the_background():
    for scene in SCENES:
        for word in scene.words:
            assert min(contrast(PALETTE[word.colour], rgb) for rgb in scene.background.shades) >= MIN_CONTRAST


def test_words_and_objects_keep_inside_the_frame_and_apart():
    for scene in SCENES:
        for thing in (*scene.words, *scene.objects):
            left, top, right, bottom = thing.box
            assert min(left, top) > 0.02
            assert max(right, bottom) < 0.98
        assert not any(boxes_touch(a.box, b.box) for a, b in itertools.combinations(scene.objects, 2))
        assert not any(boxes_touch(o.box, phrase.box) for o in scene.objects for phrase in scene.phrases)
        assert not any(boxes_touch(a.box, b.box, (0.05, 0.02)) for a, b in itertools.combinations(scene.phrases, 2))
        assert not any(
            boxes_touch(a.box, b.box) for a, b in itertools.combinations(scene.words, 2) if a.angle == b.angle == 0
        )


def test_words_are_different_and_phrases_in_regions_of_their_own():
    for scene in SCENES:
        assert len({w.text.casefold() for w in scene.words}) == len(scene.words) <= MAX_WORDS
        assert len({phrase.region for phrase in scene.phrases}) == len(scene.phrases)
        assert [word.group for word in scene.words] == sorted(word.group for word in scene.words)


def test_a_phrase_is_one_piece():
    for scene in SCENES:
        for phrase in scene.phrases:
            assert len({(word.colour, word.font, word.pixels, word.angle) for word in phrase.words}) == 1
            for before, after in itertools.pairwise(phrase.words):
                beside = after.x - after.width / 2 - (before.x + before.width / 2)
                below = after.y - after.height / 2 - (before.y + before.height / 2)
                assert max(beside, below) < 1.5 * before.pixels / 64  # in font sizes
                assert max(beside, below) > 0.1 * before.pixels / 64


def test_no_object_has_the_colour_of_the_background_or_of_another():
    for scene in SCENES:
        colours = [o.colour for o in scene.objects]
        assert len(set(colours)) == len(colours)
        assert scene.background.colour not in colours


def test_all_kinds_of_scenes_occur():
    assert {0, 1, 2, 3, 4} < set(Counter(len(s.words) for s in SCENES))
    assert set(Counter(len(s.objects) for s in SCENES)) == {0, 1, 2, 3, 4}
    assert set(Counter(len(s.phrases) for s in SCENES)) == {0, 1, 2, 3}
    assert set(Counter(len(p.words) for s in SCENES for p in s.phrases)) == {1, 2, 3, 4}
    assert {s.background.kind for s in SCENES} == {"solid", "gradient", "striped", "dotted", "noisy"}
    assert {s.background.colour for s in SCENES} == set(PALETTE)
    assert {o.shape for s in SCENES for o in s.objects} == set(SHAPES)
    assert len({p.region for s in SCENES for p in s.phrases}) == 9
    assert any(w.angle > 0.1 for s in SCENES for w in s.words)
    assert any(w.angle < -0.1 for s in SCENES for w in s.words)


def test_most_posters_have_single_words_and_objects():
    phrases = [phrase for scene in SCENES for phrase in scene.phrases]
    assert 0.45 < sum(len(phrase.words) == 1 for phrase in phrases) / len(phrases) < 0.7
    assert sum(bool(scene.objects) for scene in SCENES) / len(SCENES) > 0.88
    assert 0.03 < sum(not scene.words for scene in SCENES) / len(SCENES) < 0.13


def test_letters_are_large_enough_to_be_read():
    assert min(w.pixels for s in SCENES for w in s.words) >= MIN_PIXELS


def test_both_shades_belong_to_the_named_colour():
    for scene in SCENES:
        nearest = {list(PALETTE)[n] for n in nearest_colours(scene.background.shades)}
        assert nearest == {scene.background.colour}


@pytest.mark.parametrize("size", [48, 100, 256])
def test_other_sizes_compose_too(size):
    scenes = [compose(np.random.default_rng([1, i]), size, True) for i in range(10)]
    assert all(isinstance(s, Scene) for s in scenes)
    assert sum(bool(s.words) for s in scenes) > 6
    assert sum(bool(s.objects) for s in scenes) > 6


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
