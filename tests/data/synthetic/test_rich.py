"""The rich world: things beside shapes, rows, and what of it captions tell."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from vlad_lightning.cli import synth
from vlad_lightning.data.dataset import match_objects
from vlad_lightning.data.mario import list_samples, read_sample
from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS, reads_back
from vlad_lightning.data.synthetic.combinations import is_colour_held_out, is_relation_held_out
from vlad_lightning.data.synthetic.lettering import style_of
from vlad_lightning.data.synthetic.poster import draw_poster
from vlad_lightning.data.synthetic.scene import KINDS, Scene
from vlad_lightning.data.synthetic.sentences import CASES, FAMILIES, SIZES
from vlad_lightning.data.synthetic.synthetic import make_scene, write_posters
from vlad_lightning.data.synthetic.telling import relation_of
from vlad_lightning.layout.colours import MIN_CONTRAST, PALETTE, contrast, nearest_colours
from vlad_lightning.layout.nouns import NOUNS, THINGS
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.layout.prompt_parser import PromptDecomposer, quote_words, region_of, requested_phrases
from vlad_lightning.metrics.colour import border_colours, requested_background

TRAIN = [make_scene(index, 128, seed=3, heldout=False, world="rich") for index in range(250)]
HELD_OUT = [make_scene(index, 128, seed=3, heldout=True, world="rich") for index in range(100)]
POSTERS = TRAIN + HELD_OUT


def prompt_of(scene, caption):
    return quote_words(caption.text, [word.text for word in scene.words], [word.quad() for word in scene.words])


def combinations_on(scene):
    """Return the held-out combinations on a poster: how many colours and how many relations."""
    colours = sum(is_colour_held_out(thing.shape, thing.colour) for thing in scene.objects)
    relations = sum(
        is_relation_held_out(a.shape, relation, b.shape)
        for a, b in itertools.combinations(scene.objects, 2)
        if (relation := relation_of(a, b))
    )
    return colours, relations


def test_the_plain_world_is_drawn_as_ever():
    seen = hashlib.sha256()
    for index in range(20):
        scene, caption = make_scene(index, 64, 0, heldout=False)
        seen.update(caption.text.encode() + draw_poster(scene, 64).tobytes())
    assert seen.hexdigest() == "3e84133b3146d906504561b54ade90f0c2c0fb0b2420ad8aa8f2e43fd1e9648a"


def test_things_and_shapes_rows_and_turns_come_up():
    objects = [thing for scene, _ in POSTERS for thing in scene.objects]
    assert sum(thing.shape in THINGS for thing in objects) / len(objects) > 0.7
    assert len({thing.shape for thing in objects}) > 0.9 * len(NOUNS)
    assert {len(row) for scene, _ in POSTERS for row in scene.rows} == {1, 2, 3}
    assert set(Counter(len(scene.objects) for scene, _ in POSTERS)) == {0, 1, 2, 3, 4}
    assert len({thing.turn for thing in objects}) == 5


def test_objects_keep_inside_the_frame_and_apart_from_each_other_and_from_phrases():
    for scene, _ in POSTERS:
        boxes = [thing.box for thing in (*scene.objects, *scene.phrases)]
        assert all(min(box) > 0.02 and max(box) < 0.98 for box in boxes)
        for a, b in itertools.combinations(boxes, 2):
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def test_an_icon_lies_in_its_box_in_its_colour_and_fills_it():
    names = np.array(list(PALETTE))
    for scene, _ in POSTERS[:60]:
        seen = names[nearest_colours(np.asarray(draw_poster(scene, 128)))]
        for thing in scene.objects:
            left, top, right, bottom = (round(128 * v) for v in thing.box)
            inside = seen[top:bottom, left:right] == thing.colour
            assert inside.mean() > 0.15
            if scene.background.kind == "solid" and thing.shape in THINGS:
                rows, columns = np.nonzero(inside)
                assert np.ptp(rows) >= bottom - top - 4
                assert np.ptp(columns) >= right - left - 4


def test_captions_read_back_and_hold_grammar_words_and_drawn_words_only():
    for scene, caption in POSTERS:
        assert reads_back(scene, caption)
        rest = set(re.findall(r"\w+", caption.text)) - {word.text for word in scene.words}
        assert {word.casefold() for word in rest} <= GRAMMAR_WORDS["rich"]
        told = dict(requested_phrases(prompt_of(scene, caption)))
        assert told.items() <= {
            (tuple(word.text for word in phrase.words), phrase.region) for phrase in scene.phrases
        }, caption


def test_what_a_prompt_asks_for_is_what_the_poster_shows():
    placed = related = 0
    for scene, caption in POSTERS:
        wanted = requested_objects(prompt_of(scene, caption))
        shown = scene.objects if any(caption.phrases) else ()
        assert Counter(request.name for request in wanted) == Counter(thing.shape for thing in shown), caption
        remaining = list(shown)
        for request in wanted:
            fits = [t for t in remaining if t.shape == request.name and request.colour in (None, t.colour)]
            assert fits, caption
            if request.region:
                placed += 1
                assert request.region in {thing.region for thing in fits}, caption
            related += request.relation is not None
            remaining.remove(fits[0])
    assert placed > 100
    assert related > 20


def test_rows_are_told_by_their_number():
    told = [phrase for _, caption in POSTERS for phrase in caption.phrases if phrase and re.match("two|three", phrase)]
    assert len(told) > 10
    for _, caption in POSTERS:
        for phrase, count in Counter(filter(None, caption.phrases)).items():
            assert phrase.split()[0] == {2: "two", 3: "three"}.get(count, phrase.split()[0])


def test_no_training_poster_shows_a_held_out_combination_and_most_held_out_ones_do():
    assert all(combinations_on(scene) == (0, 0) for scene, _ in TRAIN)
    with_objects = [scene for scene, _ in HELD_OUT if scene.objects]
    shown = [combinations_on(scene) for scene in with_objects]
    assert sum(any(counts) for counts in shown) / len(shown) > 0.5
    assert min(sum(counts[0] for counts in shown), sum(counts[1] for counts in shown)) > 5


def test_about_a_tenth_of_the_combinations_is_held_out_both_ways_round():
    colours = [is_colour_held_out(noun, colour) for noun in NOUNS for colour in PALETTE]
    assert 0.06 < np.mean(colours) < 0.14
    for relation, turned in (("left", "right"), ("above", "below")):
        pairs = list(itertools.permutations(NOUNS[:30], 2))
        held = [is_relation_held_out(a, relation, b) for a, b in pairs]
        assert held == [is_relation_held_out(b, turned, a) for a, b in pairs]
        assert 0.06 < np.mean(held) < 0.14


def test_files_hold_the_scene_and_a_counted_phrase_gets_the_box_around_all(tmp_path):
    write_posters(tmp_path / "out", samples=60, size=128, seed=3, workers=1, charseg=False, world="rich")
    counted = 0
    for (scene, _), folder in zip(TRAIN[:60], list_samples(tmp_path / "out"), strict=True):
        sample = read_sample(folder)
        assert sample.problems == ()
        assert sample.scene is not None
        assert [(o.name, o.colour) for o in sample.scene.objects] == [(o.shape, o.colour) for o in scene.objects]
        assert all(region_of((o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2) == o.region for o in scene.objects)
        chunks = [chunk.text for chunk in PromptDecomposer()(sample.prompt).objects]
        boxes, known = match_objects(chunks, sample.scene, 12)
        for row in scene.rows:
            phrase = next((o.phrase for o in sample.scene.objects if o.name == row[0].shape), None)
            if len(row) == 1 or phrase not in chunks:
                continue
            counted += 1
            x, y, width, height, _ = boxes[chunks.index(phrase)].tolist()
            assert known[chunks.index(phrase)]
            assert x - width / 2 == pytest.approx(min(thing.box[0] for thing in row), abs=1e-4)
            assert y + height / 2 == pytest.approx(max(thing.box[3] for thing in row), abs=1e-4)
    assert counted


def test_styles_are_told_truly_and_recorded(tmp_path):
    told = Counter()
    for scene, caption in POSTERS:
        styles = [phrase.style for phrase in scene.phrases]
        rest = re.findall(r"[\w-]+", caption.text)
        for word in scene.words:
            rest.remove(word.text)
        for names, kinds in ((SIZES, "size"), (CASES, "case"), (FAMILIES, "family")):
            shown = {names.get(getattr(style, kinds)) for style in styles}
            said = set(names.values()) & set(rest)
            told.update(said)
            assert said <= shown, caption
        for phrase in scene.phrases:
            texts = [word.text for word in phrase.words]
            assert phrase.style == style_of(texts, phrase.words[0].font, phrase.words[0].pixels / 128)
    assert set(told) == {*SIZES.values(), *CASES.values(), *FAMILIES.values()}
    write_posters(tmp_path / "out", samples=20, size=128, seed=3, workers=1, charseg=False, world="rich")
    for (scene, _), folder in zip(TRAIN[:20], list_samples(tmp_path / "out"), strict=True):
        facts = read_sample(folder).scene
        assert [word.style for word in facts.words] == [word.style for word in scene.words]
        assert (facts.kind, facts.accent) == (scene.background.kind, scene.background.accent)


def test_letters_are_readable_on_every_background():
    assert {scene.background.kind for scene, _ in POSTERS} == set(KINDS)
    for scene, _ in POSTERS:
        for word in scene.words:
            assert min(contrast(PALETTE[word.colour], rgb) for rgb in scene.background.shades) >= MIN_CONTRAST


def test_the_background_that_a_caption_names_has_the_colour_of_the_border():
    named = 0
    for scene, caption in POSTERS:
        asked = requested_background(prompt_of(scene, caption))
        landscape = scene.background.kind == "landscape"
        assert not (landscape and asked)
        assert landscape or caption.background or not asked
        image = from_pil(draw_poster(scene, 128), (128, 128))
        assert border_colours(image[None]) == [scene.background.colour]
        named += asked is not None
        assert asked in (None, scene.background.colour)
    assert named > 150


def test_a_landscape_has_its_sky_above_its_ground():
    names = np.array(list(PALETTE))
    grounds = [scene.background for scene, _ in POSTERS if scene.background.kind == "landscape"]
    assert grounds
    for ground in grounds:
        seen = names[nearest_colours(np.asarray(draw_poster(Scene(ground, (), ()), 128)))]
        edge = round(128 * ground.horizon)
        assert (seen[: edge - 5] == ground.colour).all()
        assert (seen[edge + 5 :] == ground.accent).all()


def test_the_folder_names_the_authors_of_the_icons(tmp_path):
    for world in ("plain", "rich"):
        write_posters(tmp_path / world, samples=1, workers=1, charseg=False, world=world)
    assert "Font Awesome Free" in (tmp_path / "rich/README.md").read_text()
    assert "CC BY 4.0" in (tmp_path / "rich/README.md").read_text()
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["00000"]


def test_the_command_draws_it(tmp_path):
    arguments = ["--samples", "3", "--size", "128", "--seed", "3", "--workers", "1", "--charseg", "false"]
    synth.main(["--out", str(tmp_path / "out"), "--world", "rich", *arguments])
    captions = [read_sample(folder).caption for folder in list_samples(tmp_path / "out")]
    assert captions == [caption.text for _, caption in TRAIN[:3]]


def test_an_unknown_world_is_named(tmp_path):
    with pytest.raises(ValueError, match="world is 'flat'; allowed: plain, rich, literal"):
        write_posters(tmp_path / "out", samples=1, world="flat")
