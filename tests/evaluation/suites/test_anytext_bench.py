from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite_images import figures, seen, word

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.anytext_bench import AnyTextMeasure, anytext_ned, best_pairs, text_inside

LEFT = [[0, 0], [256, 0], [256, 512], [0, 512]]
RIGHT = [[256, 0], [512, 0], [512, 512], [256, 512]]


def line(text: str, polygon: Any = LEFT, **more: Any) -> dict[str, Any]:
    return {"text": text, "polygon": polygon, "pos": 1, **more}


def folder(root: Path, *annotations: dict[str, Any], caption: str = "a * wall", name: str = "000.jpg") -> Path:
    entry = {"img_name": name, "caption": caption, "annotations": list(annotations)}
    for subset in ("laion_word", "wukong_word"):
        (root / subset).mkdir(parents=True)
        (root / subset / "test1k.json").write_text(json.dumps({"data_list": [entry]}))
    return root


def test_lines_are_read_as_anytext_reads_them(tmp_path: Path) -> None:
    annotations = (line("BIG SALE"), line("lost", valid=False), line("gone", polygon=[]), line("x" * 30, RIGHT))
    suite = read_suite("anytext-bench", folder(tmp_path, *annotations))
    first = suite.items[0]
    assert (first.key, first.subset, suite.images_per_prompt) == ("laion_word/000", "laion_word", 4)
    assert first.facts["texts"] == ["BIG SALE", "x" * 20]
    assert first.words == ("BIG", "SALE", "x" * 20)
    assert first.prompt == f'a   wall, that reads "BIG SALE", "{"x" * 20}"'


def test_at_most_twenty_lines_count(tmp_path: Path) -> None:
    suite = read_suite("anytext-bench", folder(tmp_path, *(line(str(i)) for i in range(25))))
    assert suite.items[0].facts["texts"] == [str(i) for i in range(20)]


def test_one_list_is_enough_and_the_other_is_noted(tmp_path: Path) -> None:
    root = folder(tmp_path, line("A"))
    (root / "wukong_word" / "test1k.json").unlink()
    suite = read_suite("anytext-bench", root)
    assert (len(suite.items), suite.notes) == (1, ("wukong_word/test1k.json is missing, and its prompts with it.",))
    (root / "laion_word" / "test1k.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has neither laion_word/test1k\.json nor wukong_word/test1k\.json"):
        read_suite("anytext-bench", root)


def test_figures_worked_out_by_hand() -> None:
    item = Item("l/0", "x", "l", ("SALE", "NOW"), {"texts": ["SALE", "NOW"], "polygons": [LEFT, RIGHT]})
    image = seen("SALT", "NOW", words=[word("SALT", 0.2, 0.5), word("NOW", 0.8, 0.5)])
    found = figures(AnyTextMeasure(), [(item, image)])
    assert found["anytext_sen_acc"] == 0.5
    assert found["anytext_ned"] == pytest.approx(((1 - 1 / (4 + 1e-5)) + 1) / 2, abs=1e-12)
    assert found["anytext_sen_acc_anywhere"] == 0.5


def test_flaw_a_line_elsewhere_counts_as_unread() -> None:
    item = Item("l/0", "x", "l", ("SALE", "NOW"), {"texts": ["SALE", "NOW"], "polygons": [LEFT, RIGHT]})
    image = seen("NOW", "SALE", words=[word("NOW", 0.2, 0.5), word("SALE", 0.8, 0.5)])
    found = figures(AnyTextMeasure(), [(item, image)])
    assert (found["anytext_sen_acc"], found["anytext_sen_acc_anywhere"]) == (0, 1)
    assert found["anytext_ned_anywhere"] == pytest.approx(1)


def test_words_in_a_polygon_make_its_line() -> None:
    words = [word("BIG", 0.1, 0.5), word("far", 0.9, 0.5), word("SALE", 0.3, 0.5)]
    assert text_inside(LEFT, words) == "BIG SALE"
    assert (
        text_inside([[0, 0], [512, 512], [512, 0], [0, 512]], words) == "BIG far SALE"
    )  # an hourglass that lies on its side


def test_ned_and_pairs() -> None:
    assert anytext_ned("", "") == 1
    assert anytext_ned("SALT", "sale") == 1 - 4 / (4 + 1e-5)  # case counts
    assert best_pairs(["zz", "ab"], ["ab", "b"]) == ["ab", "zz"]
    assert best_pairs([], ["ab"]) == [""]


@pytest.mark.parametrize("polygon", [[[0, 0], [1, 1]], "x", [[0, 0, 0]] * 3, [[0, 0], [1, None], [1, 1]], 7])
def test_polygons_of_another_form_are_refused(tmp_path: Path, polygon: Any) -> None:
    with pytest.raises(ValueError, match=r"data_list\[0\]: polygon is .*; it must be"):
        read_suite("anytext-bench", folder(tmp_path, line("A", polygon)))


@pytest.mark.parametrize("name", ["../../x.jpg", "a/../b.jpg", ".jpg", "a\\b.jpg"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="it must be a plain name, since images are named by it"):
        read_suite("anytext-bench", folder(tmp_path, line("A"), name=name))
