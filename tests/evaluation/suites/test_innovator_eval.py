from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import innovator_prompts as prompts
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.prompt_drafts import to_lines
from vlad_lightning.layout.prompt_parser import REGIONS, drawn_words

SUITE = read_suite("innovator-eval")


def of(subset: str) -> list[Item]:
    return [item for item in SUITE.items if item.subset == subset]


def test_the_committed_list_is_what_the_generator_writes(tmp_path: Path) -> None:
    prompts.main(["--out", str(tmp_path / "list.jsonl")])
    committed = resources.files("vlad_lightning.evaluation.suites").joinpath(prompts.LIST).read_bytes()
    assert (tmp_path / "list.jsonl").read_bytes() == committed


def test_another_seed_gives_other_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    prompts.main(["--seed", "1", "--each", "2"])
    printed = capsys.readouterr().out
    assert printed == to_lines(prompts.innovator_items(1, 2))
    assert len(printed.splitlines()) == 2 * len(prompts.BUILDERS)
    assert printed != to_lines(prompts.innovator_items(2, 2))


def test_at_least_six_hundred_prompts_in_ten_categories_without_repetition() -> None:
    counts = Counter(item.subset for item in SUITE.items)
    assert set(counts) == set(prompts.BUILDERS)
    assert set(counts.values()) == {prompts.EACH}
    assert len(SUITE.items) >= 600
    assert len({item.prompt.casefold() for item in SUITE.items}) == len(SUITE.items)
    assert len({item.key for item in SUITE.items}) == len(SUITE.items)


def test_no_form_makes_up_most_of_a_category() -> None:
    for subset in SUITE.subsets():
        openings = Counter(" ".join(item.prompt.split()[:4]).casefold() for item in of(subset))
        assert max(openings.values()) <= prompts.EACH / 8, openings.most_common(1)


def test_the_words_are_those_in_quotes() -> None:
    for item in SUITE.items:
        told, drawn = [word for text in item.facts["texts"] for word in text["words"]], drawn_words(item.prompt)
        assert list(item.words) == told
        if not item.facts["quoted"]:
            assert drawn == ()
            assert all(word in item.prompt for word in item.words)
        elif item.subset == "repeats":
            assert set(drawn) == set(item.words)
        else:
            assert drawn == item.words, item.prompt


def test_each_category_asks_for_what_its_name_says() -> None:
    assert all(len(item.facts["objects"]) >= 2 for item in of("objects"))
    assert sum(bool(item.facts["relations"]) for item in of("objects")) > prompts.EACH / 2
    placed = [item for item in of("places") if any("place" in text for text in item.facts["texts"])]
    assert len(placed) > prompts.EACH * 0.8
    assert {text["place"] for item in placed for text in item.facts["texts"] if "place" in text} == set(REGIONS)
    assert all(len(item.facts["texts"]) >= 2 for item in of("places"))
    assert all(any(not c.isalpha() and not c.isspace() for c in "".join(item.words)) for item in of("digits"))
    assert {text["case"] for item in of("case") for text in item.facts["texts"]} == {
        "upper",
        "lower",
        "title",
        "written",
    }
    assert all(max(Counter(map(str.casefold, item.words)).values()) > 1 for item in of("repeats"))
    assert all(len({text["colour"] for text in item.facts["texts"]}) == 2 for item in of("lettering"))
    assert len({item.facts["script"] for item in of("scripts")}) >= 10
    assert not any(item.facts["quoted"] for item in of("unquoted"))
    assert not any(item.words for item in of("no_text"))


@pytest.mark.parametrize("case", ["upper", "lower", "title"])
def test_texts_have_the_case_that_is_asked_for(case: str) -> None:
    texts = [text for item in of("case") for text in item.facts["texts"] if text["case"] == case]
    change = {"upper": str.upper, "lower": str.lower, "title": str.title}[case]
    assert texts
    assert all(word == change(word) for text in texts for word in text["words"])


def test_indices_of_relations_are_those_of_texts_and_objects() -> None:
    for item in SUITE.items:
        for name, things in (("sides", item.facts["texts"]), ("relations", item.facts["objects"])):
            for first, side, second in item.facts[name]:
                assert side in ("left", "right", "above", "below")
                assert first != second
                assert max(first, second) < len(things)


def test_the_definition_says_whose_it_is_and_other_prompts_are_refused(tmp_path: Path) -> None:
    assert "this project defines it" in SUITE.definition
    with pytest.raises(ValueError, match=r"^prompts is '.*'; the suite 'innovator-eval' has its own, so leave it out$"):
        read_suite("innovator-eval", tmp_path)


def test_the_examples_of_the_page_are_prompts_of_the_list() -> None:
    page = (Path(__file__).parents[3] / "docs" / "innovator_eval.md").read_text(encoding="utf-8")
    examples = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| `([^`]*)` \|$", page, flags=re.MULTILINE))
    assert list(examples) == list(prompts.BUILDERS)
    assert all(example in {item.prompt for item in of(subset)} for subset, example in examples.items())
    assert f"{len(SUITE.items)} English prompts, {prompts.EACH} in each" in page
