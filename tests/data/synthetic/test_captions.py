from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS, MOST_CHUNKS, Caption, describe, reads_back
from vlad_lightning.data.synthetic.scene import TEXTURES, Background, PlacedObject, Scene
from vlad_lightning.data.synthetic.sentences import background_phrase
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.data.synthetic.telling import relation_of
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.prompt_parser import PromptDecomposer, quote_words, requested_phrases

POSTERS = [make_scene(index, 64, seed=3, heldout=index % 2 == 1) for index in range(500)]

RELATION = "(?:to the )?(?:left|right) of|above|over|below|under"
COLOURS = "|".join(PALETTE)
BACKGROUND = re.compile(rf"((?:{'|'.join(TEXTURES)})? ?)({COLOURS})( gradient)? (?:background|bg)")


def quoted(scene: Scene, caption: Caption) -> str:
    return quote_words(caption.text, [word.text for word in scene.words], [word.quad() for word in scene.words])


def test_a_named_background_is_the_scenes():
    told = 0
    for scene, caption in POSTERS:
        found = BACKGROUND.findall(caption.text)
        assert len(found) <= 1
        for texture, colour, gradient in found:
            told += 1
            assert colour == scene.background.colour
            assert texture.strip() in ("", scene.background.kind)
            assert not gradient or scene.background.kind == "gradient"
    assert 0.7 < told / len(POSTERS) < 0.95


def test_a_colour_in_a_caption_is_that_of_something_on_the_poster():
    for scene, caption in POSTERS:
        colours = {scene.background.colour, *(w.colour for w in scene.words), *(o.colour for o in scene.objects)}
        assert {word for word in caption.text.split() if word in PALETTE} <= colours


def test_quoting_finds_each_phrase_whole_and_nothing_else():
    for scene, caption in POSTERS:
        assert '"' not in caption.text
        assert "'" not in caption.text
        parts = PromptDecomposer()(quoted(scene, caption))
        groups = itertools.groupby(zip(parts.words, parts.groups, strict=True), key=lambda pair: pair[1])
        found = [" ".join(word.text for word, _ in group) for _, group in groups]
        assert sorted(found) == sorted(phrase.text for phrase in scene.phrases)


def test_the_prompt_parser_reads_back_the_region_of_each_phrase():
    silent = 0
    for scene, caption in POSTERS:
        regions = {tuple(word.text for word in phrase.words): phrase.region for phrase in scene.phrases}
        told = dict(requested_phrases(quoted(scene, caption)))
        assert told.items() <= regions.items(), caption
        silent += bool(regions) and not told
    assert 0 < silent < 0.3 * len(POSTERS)


def test_captions_hold_grammar_words_and_drawn_words_only():
    for scene, caption in POSTERS:
        rest = set(re.findall(r"\w+", caption.text)) - {word.text for word in scene.words}
        assert {word.casefold() for word in rest} <= GRAMMAR_WORDS["plain"]


def test_exactly_the_named_objects_are_chunks_of_the_prompt():
    for scene, caption in POSTERS:
        chunks = [chunk.text for chunk in PromptDecomposer()(quoted(scene, caption)).objects]
        assert len(chunks) <= MOST_CHUNKS
        assert {phrase for phrase in caption.phrases if phrase} <= set(chunks)
        assert len(caption.phrases) == len(scene.objects)
        named = [chunk for chunk in chunks if chunk.split()[-1] in SHAPES]
        assert Counter(named) == Counter(phrase for phrase in caption.phrases if phrase)


def test_an_object_is_named_by_its_shape_and_nearly_always_by_its_colour():
    bare = 0
    for scene, caption in POSTERS:
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True):
            if phrase and thing.colour not in phrase:
                bare += 1
                assert [other.shape for other in scene.objects].count(thing.shape) == 1
            assert phrase is None or phrase.split()[-1] == thing.shape
    assert 0 < bare < 0.12 * len(POSTERS)


def test_the_places_of_objects_are_true():
    told = 0
    place = r"(?: (?:at|in|on)(?: the)?)? (top left|top right|bottom left|bottom right|top|bottom|left|right)\b(?! of)"
    for scene, caption in POSTERS:
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True):
            if phrase and (found := re.search(rf"{phrase}{place}", caption.text)):
                told += 1
                assert found[1] == thing.region, caption
    assert told > 100


def test_relations_in_captions_are_true():
    told = 0
    for scene, caption in POSTERS:
        for (a, first), (b, second) in itertools.permutations(zip(scene.objects, caption.phrases, strict=True), 2):
            between = re.search(f"{first} ({RELATION}) {second}", caption.text)
            told += bool(between)
            assert not between or _is_true(between[1], a, b), caption
    assert told > 40


def _is_true(relation: str, a: PlacedObject, b: PlacedObject) -> bool:
    if "left" in relation or "right" in relation:
        return (a.x < b.x) == ("left" in relation)
    return (a.y < b.y) == (relation in ("above", "over"))


def test_some_captions_name_less_and_some_are_casual():
    without = {
        "words": sum(not scene.words for scene, _ in POSTERS),
        "background": sum(caption.background is None for _, caption in POSTERS),
        "objects": sum(not any(caption.phrases) for _, caption in POSTERS),
        "articles": sum(not re.search(r"\b(?:an?|the)\b", caption.text) for _, caption in POSTERS),
    }
    shares = {name: count / len(POSTERS) for name, count in without.items()}
    assert 0.04 < shares["words"] < 0.13
    assert 0.1 < shares["background"] < 0.25
    assert 0.08 < shares["objects"] < 0.2
    assert 0.03 < shares["articles"] < 0.2


def test_a_caption_that_cannot_be_read_back_is_an_error():
    scene, caption = next((s, c) for s, c in POSTERS if len(s.words) == 2 and len(s.phrases) == 1 and all(c.phrases))
    assert reads_back(scene, caption)
    first, second = (word.text for word in scene.words)
    apart = caption.text.replace(f"{first} {second}", f"{first} and {second}")
    assert not reads_back(scene, replace(caption, text=apart))
    assert not reads_back(scene, replace(caption, phrases=("a mouse",)))
    assert not reads_back(scene, replace(caption, background="a mouse"))
    assert not reads_back(scene, replace(caption, text=f"a cat, a dog, {caption.text}" + ", a cat" * MOST_CHUNKS))


def test_the_wordings_vary():
    scene = next(scene for scene, _ in POSTERS if len(scene.words) == 2 and len(scene.objects) == 2)
    rng = np.random.default_rng(0)
    assert len({describe(scene, rng).text for _ in range(200)}) > 150


@pytest.mark.parametrize(
    ("kind", "colour", "phrase"),
    [
        ("solid", "green", "a green background"),
        ("gradient", "orange", "an orange gradient background"),
        ("striped", "orange", "a striped orange background"),
    ],
)
def test_the_background_phrase_names_the_colour(kind, colour, phrase):
    assert background_phrase(Background(colour, kind, (PALETTE[colour], PALETTE[colour]))) == phrase


def test_relation_of_is_none_on_a_diagonal():
    here = PlacedObject("circle", "red", 0.5, 0.5, 0.1)
    assert relation_of(here, replace(here, x=0.8, y=0.8)) is None
    assert relation_of(here, replace(here, x=0.8)) == "left"
    assert relation_of(here, replace(here, y=0.1)) == "below"
