from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path

from vlad_lightning.data.synthetic.combinations import is_colour_held_out
from vlad_lightning.data.synthetic.vocabulary import is_held_out
from vlad_lightning.evaluation.suites import mini_prompts as prompts
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.mini_measures import requested
from vlad_lightning.layout.lettering_requests import requested_lettering
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.layout.prompt_parser import drawn_words, requested_phrases
from vlad_lightning.metrics.colour import requested_background

SUITE = read_suite("innovator-eval-mini")


def test_the_committed_list_is_what_the_generator_writes(tmp_path: Path) -> None:
    prompts.main(["--out", str(tmp_path / "list.jsonl")])
    committed = resources.files("vlad_lightning.evaluation.suites").joinpath(prompts.LIST).read_bytes()
    assert (tmp_path / "list.jsonl").read_bytes() == committed


def test_prompts_differ_and_each_category_has_as_many() -> None:
    assert Counter(item.subset for item in SUITE.items) == dict.fromkeys(prompts.BUILDERS, prompts.EACH)
    assert len({item.prompt.casefold() for item in SUITE.items}) == len(SUITE.items)


def test_no_prompt_is_one_of_training() -> None:
    for item in SUITE.items:
        assert all(is_held_out(word) for word in item.words), item.words
        things = item.facts["objects"]
        assert all(is_colour_held_out(thing["name"], thing["colour"]) for thing in things), item.prompt
        assert item.words or things


def test_facts_are_what_the_prompts_parsers_read() -> None:
    for item in SUITE.items:
        texts = item.facts["texts"]
        assert requested_objects(item.prompt) == requested(item.facts), item.prompt
        assert requested_background(item.prompt) == item.facts["background"]
        assert drawn_words(item.prompt) == (item.words if item.facts["quoted"] else ())
        placed = tuple((tuple(text["words"]), text["place"]) for text in texts if "place" in text)
        assert requested_phrases(item.prompt) == placed
        if item.subset == "lettering":
            colours = [text["colour"] for text in texts for _ in text["words"]]
            assert [look.colour for look in requested_lettering(item.prompt)] == colours
