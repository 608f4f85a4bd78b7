from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from vlad_lightning.data.captions import GRAMMAR_WORDS, background_phrase, describe, relation_of
from vlad_lightning.data.scene import TEXTURES, Background, PlacedObject
from vlad_lightning.data.synthetic import make_scene
from vlad_lightning.models.colours import PALETTE
from vlad_lightning.models.prompts import drawn_words, quote_words, requested_regions

POSTERS = [make_scene(index, 64, seed=3, heldout=index % 2 == 1) for index in range(400)]

RELATION = "(?:to the )?(?:left|right) of|above|over|below|under"
BACKGROUND = re.compile(r"\bon (an?) ((?:\w+ )??)(\w+)( gradient)? background\b")


def test_each_caption_names_the_background_once():
    for scene, caption in POSTERS:
        (found,) = BACKGROUND.findall(caption)
        article, texture, colour, gradient = found
        assert colour == scene.background.colour
        assert texture.strip() == (scene.background.kind if scene.background.kind in TEXTURES else "")
        assert bool(gradient) == (scene.background.kind == "gradient")
        assert article == ("an" if (texture or colour)[0] in "aeiou" else "a")


def test_quoting_finds_each_drawn_word_and_nothing_else():
    for scene, caption in POSTERS:
        words = [word.text for word in scene.words]
        assert '"' not in caption
        assert "'" not in caption
        assert sorted(drawn_words(quote_words(caption, words))) == sorted(words)


def test_the_prompt_parser_reads_back_the_region_of_each_word():
    silent = 0
    for scene, caption in POSTERS:
        regions = {word.text: word.region for word in scene.words}
        told = dict(requested_regions(quote_words(caption, list(regions))))
        assert told.items() <= regions.items(), caption
        assert len(told) == len(regions) or len(regions) == 1
        silent += not told
    assert 0 < silent < 0.2 * len(POSTERS)


def test_captions_hold_grammar_words_and_drawn_words_only():
    for scene, caption in POSTERS:
        rest = set(re.findall(r"\w+", caption)) - {word.text for word in scene.words}
        assert {word.casefold() for word in rest} <= GRAMMAR_WORDS


def test_every_object_is_told_with_its_colour():
    for scene, caption in POSTERS:
        for thing in scene.objects:
            assert f"{thing.colour} {thing.shape}" in caption


def test_relations_in_captions_are_true():
    told = 0
    for scene, caption in POSTERS:
        for a in scene.objects:
            for b in scene.objects:
                between = re.search(f"{a.colour} {a.shape} ({RELATION}) an? {b.colour} {b.shape}", caption)
                told += bool(between)
                assert not between or _is_true(between[1], a, b), caption
    assert told > 50


def _is_true(relation: str, a: PlacedObject, b: PlacedObject) -> bool:
    if "left" in relation or "right" in relation:
        return (a.x < b.x) == ("left" in relation)
    return (a.y < b.y) == (relation in ("above", "over"))


def test_the_forms_vary():
    scene = next(scene for scene, _ in POSTERS if len(scene.words) == 2 and len(scene.objects) == 2)
    rng = np.random.default_rng(0)
    assert len({describe(scene, rng) for _ in range(200)}) > 150


def test_a_colour_told_of_a_word_is_its_own():
    named = re.compile(rf" in ({'|'.join(PALETTE)})\b")
    seen = 0
    for scene, caption in POSTERS:
        allowed = {word.colour for word in scene.words}
        found = set(named.findall(caption))
        seen += bool(found)
        assert found <= allowed
    assert seen > 30


@pytest.mark.parametrize(
    ("kind", "colour", "phrase"),
    [
        ("solid", "green", "on a green background"),
        ("gradient", "orange", "on an orange gradient background"),
        ("striped", "orange", "on a striped orange background"),
    ],
)
def test_background_phrase(kind, colour, phrase):
    assert background_phrase(Background(colour, kind, (PALETTE[colour], PALETTE[colour]))) == phrase


def test_relation_of_is_none_on_a_diagonal():
    here = PlacedObject("circle", "red", 0.5, 0.5, 0.1)
    assert relation_of(here, replace(here, x=0.8, y=0.8)) is None
    assert relation_of(here, replace(here, x=0.8)) == "left"
    assert relation_of(here, replace(here, y=0.1)) == "below"
