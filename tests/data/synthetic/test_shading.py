"""Shades of colours in the literal world: told by their names, drawn as CSS has them, and seen."""

from __future__ import annotations

import numpy as np

from vlad_lightning.data.synthetic.poster import draw_poster
from vlad_lightning.data.synthetic.shades import SHADES
from vlad_lightning.data.synthetic.synthetic import make_scene, undrawn_sample
from vlad_lightning.layout.colours import MIN_CONTRAST, PALETTE, contrast, is_far, rgb_named
from vlad_lightning.layout.phrase_colours import phrase_colours
from vlad_lightning.layout.prompt_parser import PromptDecomposer

POSTERS = [make_scene(index, 128, seed=5, heldout=False, world="literal") for index in range(300)]


def test_the_names_are_those_of_css_and_each_is_told_apart() -> None:
    names = [name for shades in SHADES.values() for name in shades]
    assert set(SHADES) == set(PALETTE)
    assert len(set(names)) == len(names) > 35
    colours = [rgb_named(name) for name in names]
    assert None not in colours
    assert not set(names) & set(PALETTE)
    assert len(set(colours)) >= len(names) - 1  # cyan and aqua are one


def test_many_posters_have_shades_and_tell_them() -> None:
    told = [thing for scene, _ in POSTERS for thing in scene.objects if thing.shade]
    grounds = [scene.background for scene, _ in POSTERS if scene.background.shade]
    assert len(told) > 80
    assert len(grounds) > 15
    assert len({thing.shade for thing in told}) > 25
    for scene, caption in POSTERS:
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True):
            assert thing.shade is None or (phrase and thing.shade in phrase)
            assert thing.shade is None or thing.shade in SHADES[thing.colour]
        shade = scene.background.shade
        assert shade is None or (caption.background and shade in caption.background)


def test_the_colour_of_an_objects_phrase_is_the_one_that_is_drawn() -> None:
    seen = 0
    for scene, caption in POSTERS:
        phrases = PromptDecomposer()(caption.text).objects
        named = dict(zip((phrase.text for phrase in phrases), phrase_colours(caption.text, phrases), strict=True))
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True):
            if thing.shade and named[phrase or ""]:
                seen += 1
                assert named[phrase or ""] == thing.rgb
    assert seen > 80


def test_shades_are_drawn_where_they_can_be_seen() -> None:
    for scene, _ in POSTERS[:100]:
        shades = scene.background.shades
        assert all(is_far(thing.rgb, shades) for thing in scene.objects)
        assert all(contrast(PALETTE[word.colour], shade) >= MIN_CONTRAST for word in scene.words for shade in shades)
        pixels = np.asarray(draw_poster(scene, 128)).reshape(-1, 3)
        for thing in scene.objects:
            assert (np.abs(pixels - np.array(thing.rgb)).sum(axis=-1) <= 3).sum() > 20


def test_a_scene_says_the_colour_that_a_shade_belongs_to() -> None:
    index = next(i for i, (scene, _) in enumerate(POSTERS) if any(thing.shade for thing in scene.objects))
    facts = undrawn_sample(index, 128, 5, False, "literal").scene
    assert facts is not None
    assert {entry.colour for entry in facts.objects} <= set(PALETTE)


def test_the_other_worlds_have_no_shades() -> None:
    for world in ("plain", "rich", "wordless"):
        scenes = [make_scene(index, 64, 5, False, world)[0] for index in range(40)]
        assert not any(thing.shade for scene in scenes for thing in scene.objects)
        assert not any(scene.background.shade for scene in scenes)
