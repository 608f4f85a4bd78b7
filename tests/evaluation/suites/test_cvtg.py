from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from suite_images import figures, seen

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.cvtg import AREAS, TYPES, CvtgMeasure, cvtg_scores
from vlad_lightning.evaluation.suites.word_measure import WordMeasure


def folder(root: Path, **changes: Any) -> Path:
    """Write a folder of the published form with one prompt of our own in each file."""
    for kind in TYPES:
        (root / kind).mkdir(parents=True)
        for areas in AREAS:
            texts = [f"Text {i}" for i in range(areas)]
            entry = {
                "index": areas * 10,
                "prompt": "a wall with " + " and ".join(f"'{text}'" for text in texts),
                "carrier_list": ["wall"] * areas,
                "sentence_list": texts,
            }
            (root / kind / f"{areas}.json").write_text(json.dumps({"data_list": [entry | changes]}))
    return root


def item(prompt: str, *texts: str) -> Item:
    return Item("CVTG/2/0", prompt, "CVTG/2", tuple(word for text in texts for word in text.split()))


def test_the_eight_files_are_read(tmp_path: Path) -> None:
    suite = read_suite("cvtg-2k", folder(tmp_path))
    assert suite.subsets() == tuple(f"{kind}/{areas}" for kind in TYPES for areas in AREAS)
    assert suite.items[1].key == "CVTG/3/30"
    assert suite.items[1].words == ("Text", "0", "Text", "1", "Text", "2")
    assert suite.images_per_prompt == 1
    assert suite.notes == ()


def test_prompts_with_another_number_of_texts_are_noted(tmp_path: Path) -> None:
    suite = read_suite("cvtg-2k", folder(tmp_path, sentence_list=["a", "b"]))
    assert suite.notes == ("6 prompts have another number of texts than their file's name says.",)


def test_scores_worked_out_by_hand() -> None:
    # wanted: open, late, now; read: open, lat, x. NED: 1; 1 - 1/4; to "now" difflib's closest is "open", 4 edits away
    found, similarity = cvtg_scores(["OPEN lat", "x"], ["open", "late", "now"])
    assert found == 1
    assert similarity == pytest.approx(1 + 3 / 4 + 0)
    assert cvtg_scores([], ["open"]) == (0, 0.0)


def test_flaw_one_drawing_serves_every_repetition() -> None:
    pairs = [(item("'SALE' and 'SALE'", "SALE", "SALE"), seen("SALE"))]
    assert figures(CvtgMeasure(), pairs)["cvtg_accuracy"] == 1
    assert figures(CvtgMeasure(), pairs)["cvtg_bare_accuracy"] == 0.5
    assert figures(WordMeasure(), pairs)["word_accuracy"] == 0.5


def test_flaw_words_that_nobody_asked_for_cost_nothing() -> None:
    pairs = [(item("'SALE'", "SALE"), seen("SALE", "and much noise"))]
    assert figures(CvtgMeasure(), pairs)["cvtg_accuracy"] == 1
    assert figures(WordMeasure(), pairs)["micro_precision"] == 1 / 4


def test_flaw_punctuation_that_the_reader_drops_costs_a_word() -> None:
    pairs = [(item("'Wow!'", "Wow!"), seen("wow"))]
    assert figures(CvtgMeasure(), pairs)["cvtg_accuracy"] == 0
    assert figures(CvtgMeasure(), pairs)["cvtg_bare_accuracy"] == 1


def test_flaw_an_apostrophe_is_a_quote() -> None:
    pairs = [(item("it's 'Tom' and it's 'Ann'", "Tom", "Ann"), seen("Tom Ann"))]
    # the keywords are: s, and it, ann -- what stands between the apostrophes
    assert figures(CvtgMeasure(), pairs)["cvtg_accuracy"] < figures(WordMeasure(), pairs)["word_accuracy"] == 1


def test_flaw_difflibs_closest_word_is_not_that_of_the_least_distance() -> None:
    # both share three letters with "abcd" in order (6 / 8), and of two alike difflib takes the later in the alphabet
    found, similarity = cvtg_scores(["dabc", "abxd"], ["abcd"])
    assert (found, similarity) == (0, pytest.approx(1 - 2 / 4))
    pairs = [(item("'abcd'", "abcd"), seen("dabc", "abxd"))]
    assert figures(WordMeasure(), pairs)["edit_similarity"] == pytest.approx(1 - 1 / 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence_list": "a"}, r"2\.json, data_list\[0\]: sentence_list is 'a'; it must be a list"),
        ({"sentence_list": [1]}, r"sentence_list has the entry 1; it must be a text"),
        ({"index": True}, r"index is True; it must be a whole number"),
        ({"prompt": None}, r"prompt is None; it must be a text"),
    ],
)
def test_entries_of_another_form_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_suite("cvtg-2k", folder(tmp_path, **changes))


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "CVTG" / "4.json").write_text('{"data_list": []}')
    with pytest.raises(ValueError, match=r"4\.json is empty"):
        read_suite("cvtg-2k", root)
    (root / "CVTG" / "4.json").write_text("[]")
    with pytest.raises(ValueError, match=r"4\.json is \[\]; it must be an object"):
        read_suite("cvtg-2k", root)
    (root / "CVTG" / "4.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks CVTG/4\.json"):
        read_suite("cvtg-2k", root)
