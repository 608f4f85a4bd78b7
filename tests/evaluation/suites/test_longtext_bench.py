from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite_images import figures, seen

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.longtext_bench import LongTextMeasure, in_order, units

ENTRY = {"category": "sign", "length": "short", "prompt": "a sign", "text": ["Don't stop,", "NOW 5!"], "prompt_id": 7}


def written(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def item(*texts: str, by_character: bool = False) -> Item:
    return Item("en/0", "x", "en/sign", (), {"texts": list(texts), "by_character": by_character})


def test_a_file_and_a_folder_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "text_prompts.jsonl", ENTRY, ENTRY | {"prompt_id": 8})
    written(tmp_path / "text_prompts_zh.jsonl", ENTRY | {"text": ["小心 地滑"]})
    suite = read_suite("longtext-bench", path)
    assert [one.key for one in suite.items] == ["text_prompts/7", "text_prompts/8"]
    assert suite.items[0].words == ("dont", "stop", "now", "5")
    assert suite.images_per_prompt == 4
    both = read_suite("longtext-bench", tmp_path)
    assert both.subsets() == ("text_prompts/sign", "text_prompts_zh/sign")
    assert [one.facts["by_character"] for one in both.items] == [False, False, True]


def test_units_keep_letters_and_digits() -> None:
    assert units(["Don't -- stop,", "NOW 5!"], by_character=False) == ["dont", "stop", "now", "5"]
    assert units(["小心, 地滑 ok"], by_character=True) == [*"小心地滑ok"]
    assert units(["¡Año!"], by_character=False) == ["año"]


def test_figures_worked_out_by_hand_and_flaws() -> None:
    # wanted a b b c; read b a x: matched 2 of 4 wanted and of 3 read
    found = figures(LongTextMeasure(), [(item("A b,", "B c"), seen("b a", "x"))])
    assert found["longtext_accuracy"] == 2 / 4
    assert found["longtext_precision"] == 2 / 3  # the accuracy is a recall: x costs nothing
    assert found["longtext_f1"] == 4 / 7
    assert found["longtext_order"] == 1 - 3 / 4  # b a x to a b b c: insert a, keep b, replace a and x


def test_accuracy_is_summed_over_images_and_order_is_a_mean() -> None:
    pairs = [(item("a b c d"), seen("a b c d")), (item("e"), seen())]
    found = figures(LongTextMeasure(), pairs)
    assert found["longtext_accuracy"] == 4 / 5
    assert found["longtext_order"] == 1 / 2


def test_flaw_the_order_does_not_count() -> None:
    found = figures(LongTextMeasure(), [(item("one two three"), seen("three two one"))])
    assert found["longtext_accuracy"] == 1
    assert found["longtext_order"] == pytest.approx(1 / 3)
    assert in_order([], []) == 1


def test_chinese_is_counted_by_character() -> None:
    found = figures(LongTextMeasure(), [(item("小心地滑", by_character=True), seen("小心", "地上"))])
    assert found["longtext_accuracy"] == 3 / 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ENTRY | {"text": "x"}, r"line 1: text is 'x'; it must be a list"),
        ({name: value for name, value in ENTRY.items() if name != "category"}, "has no 'category'; it has length,"),
        (ENTRY | {"prompt_id": None}, "needs a prompt_id that is a number or a text; it is None"),
        (ENTRY | {"prompt_id": "../x"}, "it must be a plain name"),
    ],
)
def test_lines_of_another_form_are_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_suite("longtext-bench", written(tmp_path / "p.jsonl", entry))


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"a": 1}\nnot json\n')
    with pytest.raises(ValueError, match=r"p\.jsonl, line 2 is not JSON"):
        read_suite("longtext-bench", tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"p\.jsonl is empty"):
        read_suite("longtext-bench", tmp_path)
    with pytest.raises(ValueError, match=r"p\.jsonl has the key 'p/7' twice"):
        read_suite("longtext-bench", written(tmp_path / "p.jsonl", ENTRY, ENTRY))
    (tmp_path / "p.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no \.jsonl file"):
        read_suite("longtext-bench", tmp_path)
