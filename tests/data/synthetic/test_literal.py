"""The literal world: what a caption leaves out is not on its poster."""

from __future__ import annotations

import pytest

from vlad_lightning.data.synthetic.backgrounds import in_usual_form
from vlad_lightning.data.synthetic.combinations import is_colour_held_out
from vlad_lightning.data.synthetic.composition import text_colours
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.data.synthetic.scene import KINDS
from vlad_lightning.data.synthetic.shades import SHADES, rgb_of
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.data.synthetic.undrawn import HEADS
from vlad_lightning.data.synthetic.vocabulary import dictionary
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.lettering_requests import requested_lettering
from vlad_lightning.layout.nouns import ALL_NOUNS, plural_of
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.layout.prompt_parser import PromptDecomposer, quote_words

POSTERS = [make_scene(index, 128, seed=3, heldout=False, world="literal") for index in range(300)]


def test_every_object_has_a_phrase():
    assert all(len(scene.objects) == len(caption.phrases) and all(caption.phrases) for scene, caption in POSTERS)
    assert sum(not scene.objects for scene, _ in POSTERS) > 15  # told by none, or not there


def test_captions_ask_for_the_objects_that_there_are():
    for scene, caption in POSTERS:
        asked = [thing.name for thing in requested_objects(caption.text, ALL_NOUNS)]
        assert sorted(asked) == sorted(thing.shape for thing in scene.objects), caption.text


def test_an_untold_background_is_white_or_black():
    untold = [scene.background for scene, caption in POSTERS if caption.background is None]
    assert len(untold) > 50
    assert {(ground.kind, ground.accent) for ground in untold} == {("solid", None)}
    assert {ground.colour for ground in untold} == {"white", "black"}
    assert all(ground.shades == (PALETTE[ground.colour],) * 2 for ground in untold)


def test_what_no_caption_tells_of_a_background_is_always_the_same():
    seen = set()
    for scene, caption in POSTERS:
        ground = scene.background
        if caption.background is None:
            continue
        usual = in_usual_form(ground)
        assert (ground.angle, ground.period, ground.horizon) == (usual.angle, usual.period, usual.horizon)
        if ground.shade is None:
            assert ground.shades == usual.shades
            seen.add(ground.kind)
        if ground.kind in ("solid", "framed"):
            assert ground.shades == (rgb_of(ground.told_colour),) * 2
    assert seen == set(KINDS)


def test_an_untold_colour_is_an_ink():
    untold = [
        thing.colour
        for scene, caption in POSTERS
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True)
        if phrase and thing.told_colour not in phrase
    ]
    assert len(untold) > 40
    assert set(untold) <= {"black", "white", "gray"}
    assert untold.count("black") > untold.count("white") > untold.count("gray")


def test_letters_have_the_colour_that_is_told_or_the_one_that_is_read_best():
    told, untold = [], []
    for scene, caption in POSTERS:
        ratios = text_colours(*scene.background.shades)
        quoted = quote_words(caption.text, [word.text for word in scene.words], [word.quad() for word in scene.words])
        said = [letters.colour for letters in requested_lettering(quoted)]
        assert set(filter(None, said)) <= {word.colour for word in scene.words}, caption.text
        if any(said):
            told += [colour for colour in said if colour]
        else:
            untold += [word.colour == max(ratios, key=lambda name: ratios[name]) for word in scene.words]
    assert len(untold) > 200
    assert all(untold)
    assert set(told) == set(PALETTE)
    assert sum(colour not in ("black", "white") for colour in told) / len(told) > 0.5
    assert min(told.count(colour) for colour in PALETTE) / len(told) > 0.01


def test_a_ground_on_which_nothing_could_be_read_is_one_for_posters_without_words():
    """A shade in the middle, such as a teal, leaves no letters: that is no reason to leave the poster out."""
    scene, _ = make_scene(28948, 128, seed=104, heldout=False, world="literal")
    assert not scene.words
    assert not text_colours(*scene.background.shades)


def test_everything_can_be_seen():
    for scene, _ in POSTERS:
        assert {word.colour for word in scene.words} <= text_colours(*scene.background.shades).keys()


def test_training_shows_no_held_out_colour():
    assert not any(is_colour_held_out(thing.shape, thing.colour) for scene, _ in POSTERS for thing in scene.objects)


def test_some_objects_have_a_word_that_changes_nothing():
    phrases = [
        (thing, phrase.split())
        for scene, caption in POSTERS
        for thing, phrase in zip(scene.objects, caption.phrases, strict=True)
    ]
    shades = {word for names in SHADES.values() for name in names for word in name.split()}
    usual = {*shades, *PALETTE, *ALL_NOUNS, *map(plural_of, ALL_NOUNS), "a", "an", "two", "three", "four"}
    qualified = [(thing, set(words) - usual) for thing, words in phrases if set(words) - usual]
    assert 0.3 < len(qualified) / len(phrases) < 0.5
    assert all(len(others) == 1 for _, others in qualified)
    assert len(set().union(*(others for _, others in qualified))) > 30


def test_some_captions_give_the_grounds_colour_to_the_poster():
    grounds = ("background", "bg", "sky")
    found = [
        (scene, caption)
        for scene, caption in POSTERS
        if caption.background and " " in caption.background and not caption.background.endswith(grounds)
    ]
    assert len(found) > 12
    for scene, caption in found:
        assert (scene.background.kind, scene.background.accent) == ("solid", None)
        assert f"{scene.background.told_colour} " in caption.background
        quoted = quote_words(caption.text, [word.text for word in scene.words], [word.quad() for word in scene.words])
        assert caption.background in [chunk.text for chunk in PromptDecomposer()(quoted).objects], caption.text
        assert "background" not in caption.text
    heads = {caption.background.split()[-1] for _, caption in found}
    assert len(heads & {"poster", "sign", "card", "flyer", "picture", "banner", "pic"}) > 2


def test_captions_also_name_what_no_poster_shows():
    drawable = {form for noun in ALL_NOUNS for form in (noun, plural_of(noun))}
    undrawn = [
        chunk.text
        for scene, caption in POSTERS
        for chunk in PromptDecomposer()(caption.text).objects
        if chunk.text not in {*caption.phrases, caption.background} and not drawable & set(chunk.text.split())
    ]
    assert len(undrawn) > 100
    words = {word.text.casefold() for scene, _ in POSTERS for word in scene.words}
    assert len({text.split()[-1] for text in undrawn} & set(dictionary(False, frozenset())) - words) > 20
    kinds = [text.split()[-1] for text in undrawn if text.split()[-1] in HEADS]
    assert len(set(kinds)) > 15
    assert len({text for text in undrawn if text.split()[-1] in HEADS}) > 60  # "a velvet banner", "a free brochure"


@pytest.mark.parametrize("heldout", [False, True])
def test_a_poster_is_the_same_whenever_it_is_read(heldout):
    first, second = (SyntheticSource(50, world="literal", heldout=heldout).read(7) for _ in range(2))
    assert first.prompt == second.prompt
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.tobytes() != SyntheticSource(50, world="rich", heldout=heldout).read(7).image.tobytes()
