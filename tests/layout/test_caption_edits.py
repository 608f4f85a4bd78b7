from __future__ import annotations

import random
import re

import pytest

from vlad_lightning.data.synthetic.scene import World
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.layout.caption_edits import KINDS, NOUNS, edit_caption
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.lettering_requests import requested_lettering
from vlad_lightning.layout.nouns import SHAPES, THINGS, plural_of
from vlad_lightning.layout.prompt_parser import PromptDecomposer, drawn_words, quote_words, requested_regions

CAPTION = (
    "an orange star at the top left and a blue circle left of a green heart on a striped pink background, "
    'with the text "SALE" at the top and "now" in the middle in gray serif letters'
)


def edit(prompt: str, kind: str, seed: int = 0, **changes: tuple[str, ...]) -> str:
    edited = edit_caption(prompt, kind, random.Random(seed), **changes)
    assert edited is not None
    return edited


def true_captions(count: int, world: World = "plain") -> list[str]:
    scenes = [make_scene(i, 64, 5, False, world) for i in range(count)]
    return [quote_words(caption.text, [word.text for word in scene.words]) for scene, caption in scenes]


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text)


@pytest.mark.parametrize("seed", range(10))
def test_each_kind_changes_only_its_kind_of_phrase(seed: int) -> None:
    parts = PromptDecomposer()
    for kind in KINDS:
        edited = edit(CAPTION, kind, seed)
        before, after = parts(CAPTION), parts(edited)
        assert (len(before.words), len(before.objects)) == (len(after.words), len(after.objects))
        changed = [i for i, (a, b) in enumerate(zip(before.objects, after.objects, strict=True)) if a.text != b.text]
        if kind == "background_colour":
            assert [before.objects[i].text for i in changed] == ["a striped pink background"]
        elif kind in ("object_colour", "object_shape"):
            assert len(changed) == 1
            assert changed[0] in (0, 2, 3)
        elif kind == "object_position":
            assert changed in ([], [1])  # a relation lies between two chunks
            assert changed or " right of " in edited
            assert requested_regions(edited) == requested_regions(CAPTION)
        elif kind == "word_position":
            assert len(changed) == 1
            assert changed[0] >= 5
            assert requested_regions(edited) != requested_regions(CAPTION)
        elif kind == "word_replaced":
            assert sum(a != b for a, b in zip(drawn_words(CAPTION), drawn_words(edited), strict=True)) == 1
        asked = requested_lettering(edited)
        assert (asked != requested_lettering(CAPTION)) == (kind in ("word_colour", "word_family"))
        if kind == "word_colour":
            assert (asked[1].colour != "gray", asked[1].family) == (True, "serif")
        elif kind == "word_family":
            assert (asked[1].colour, asked[1].family != "serif") == ("gray", True)
        if kind != "word_replaced":
            assert drawn_words(edited) == drawn_words(CAPTION)


def test_only_the_lettering_of_words_is_restyled() -> None:
    for kind in ("word_colour", "word_family"):
        assert edit_caption("a red serif star in blue, 'A'", kind, random.Random(0)) is None
    assert edit("the red word 'A' on a red card", "word_colour") == "the brown word 'A' on a red card"


def test_swapped_colours_are_the_same_colours() -> None:
    edited = edit("a red star above an orange ring", "colours_swapped")
    assert edited == "an orange star above a red ring"
    assert edit_caption("a red star and a blue star", "colours_swapped", random.Random(0)) is None
    assert edit_caption("a red star and a red ring", "colours_swapped", random.Random(0)) is None


@pytest.mark.parametrize(
    ("relation", "opposite"),
    [("left of", "right of"), ("to the right of", "to the left of"), ("above", "below"), ("under", "over")],
)
def test_relations_are_reversed(relation: str, opposite: str) -> None:
    prompt = f"a red star {relation} a pink ring on a blue background"
    assert edit(prompt, "object_position") == prompt.replace(relation, opposite)


def test_replacements_are_not_yet_in_the_prompt() -> None:
    for seed in range(40):
        for kind in ("background_colour", "object_colour"):
            new = set(words_of(edit(CAPTION, kind, seed))) - set(words_of(CAPTION)) - {"a", "an"}
            assert len(new) == 1
            assert new <= set(PALETTE)
        assert set(words_of(edit(CAPTION, "object_shape", seed))) - set(words_of(CAPTION)) <= set(NOUNS)
        where = [place for _, place in requested_regions(edit(CAPTION, "word_position", seed))]
        assert len(set(where)) == 2, "two words in one region: told from the wording alone"


def test_articles_are_corrected() -> None:
    for seed in range(40):
        for kind in KINDS:
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", edit(CAPTION, kind, seed)), kind


def test_a_word_keeps_its_case_and_comes_from_the_callers_list() -> None:
    assert edit('the word "SALE"', "word_replaced", words=("tree",)) == 'the word "TREE"'
    assert edit('the word "Sale"', "word_replaced", words=("tree",)) == 'the word "Tree"'
    assert edit('the word "sale"', "word_replaced", words=("TREE",)) == 'the word "tree"'
    assert edit_caption('the word "sale"', "word_replaced", random.Random(0), words=("SALE",)) is None


def test_the_callers_nouns_are_used() -> None:
    assert edit("a black cat at the top", "object_shape", nouns=("cat", "dog")) == "a black dog at the top"


def test_a_noun_is_replaced_by_one_of_its_kind_and_a_plural_by_a_plural() -> None:
    for seed in range(30):
        assert edit("a red star", "object_shape", seed).split()[-1] in SHAPES
        assert edit("a red cat", "object_shape", seed).split()[-1] in THINGS
        assert edit("two red teeth", "object_shape", seed).split()[-1] in map(plural_of, THINGS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["", "a poster", "happy birthday", 'a sign in red with the text "', "!?"])
def test_prompts_with_nothing_to_change_have_no_edit(prompt: str, kind: str) -> None:
    assert edit_caption(prompt, kind, random.Random(0)) is None


def test_nearly_every_caption_has_every_edit_and_the_seed_determines_it() -> None:
    """Among the captions with something to change: some have no words, no objects or no background."""
    plain, rich = true_captions(150), true_captions(150, "rich")
    ground = re.compile(rf"\b({'|'.join(PALETTE)})\b[\w ]* (background|bg)\b")
    colour = re.compile(rf"\b({'|'.join(PALETTE)}) ({'|'.join(NOUNS)})\b")
    noun = re.compile(rf"\b({'|'.join(NOUNS)})\b")
    tells = {
        "background_colour": ground.search,
        "object_colour": colour.search,
        "object_shape": noun.search,
        "object_position": noun.search,
        "colours_swapped": lambda c: len({m[1] for m in colour.finditer(c)}) > 1,
        "word_replaced": drawn_words,
        "word_position": requested_regions,
        "word_colour": lambda c: any(said.colour for said in requested_lettering(c)),
        "word_family": lambda c: any(said.family for said in requested_lettering(c)),
    }
    for kind in KINDS:
        captions = rich if kind == "word_family" else plain  # the plain world tells no family
        first, second = ([edit_caption(c, kind, random.Random(3)) for c in captions] for _ in range(2))
        assert first == second
        assert all(a != b for a, b in zip(captions, first, strict=True))
        told = [edited for caption, edited in zip(captions, first, strict=True) if tells[kind](caption)]
        assert len(told) > 30, kind
        assert sum(edited is not None for edited in told) >= 0.85 * len(told), kind


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind is 'mood'"):
        edit_caption("a red star", "mood", random.Random(0))
