from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlad_lightning.metrics.ocr import (
    OCRMetrics,
    edit_score,
    mario_keywords,
    mario_score,
    mario_targets,
    ocr_row,
    readings,
)

GOLDEN = json.loads((Path(__file__).parent / "ocr_metric_vectors.json").read_text())


class Written:
    """An OCR engine with given lines per picture, which it identifies by the grey value."""

    name = "written 1.0"

    def __init__(self, lines: list[list[str]]) -> None:
        self.lines = lines

    def read(self, images: Tensor) -> list[list[str]]:
        return [self.lines[int(image.mean().item())] for image in images]


def pictures(*indices: int) -> Tensor:
    return torch.tensor(indices, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def measured(lines: list[list[str]], targets: list[list[str]]) -> dict[str, float]:
    metric = OCRMetrics(Written(lines))
    metric.update(pictures(*range(len(lines))), targets)
    return {name: result.value for name, result in metric.compute().items()}


@cache
def levenshtein(a: str, b: str) -> int:
    """Compute the distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(levenshtein(a[1:], b) + 1, levenshtein(a, b[1:]) + 1, levenshtein(a[1:], b[1:]) + (a[0] != b[0]))


@pytest.mark.parametrize("case", GOLDEN["keyword_extraction_input_is_stripped_and_lowercased_first"], ids=str)
def test_keywords_equal_marios(case: dict[str, object]) -> None:
    assert mario_keywords(str(case["prompt"])) == case["keywords"]


@pytest.mark.parametrize("case", GOLDEN["per_image_p_r_acc"], ids=str)
def test_scores_equal_marios(case: dict[str, object]) -> None:
    score = mario_score(case["pred"], case["gt"])
    assert (score.precision, score.recall, score.accuracy) == (case["p"], case["r"], case["acc"])


def test_metric_has_marios_means_and_the_f_of_means() -> None:
    cases = GOLDEN["per_image_p_r_acc"]
    results = measured([case["pred"] for case in cases], [case["gt"] for case in cases])
    precision, recall, accuracy = (sum(case[k] for case in cases) / len(cases) for k in ("p", "r", "acc"))
    assert results["mario_precision"] == pytest.approx(precision, abs=1e-6)
    assert results["mario_recall"] == pytest.approx(recall, abs=1e-6)
    assert results["mario_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert results["mario_f"] == pytest.approx(2 * precision * recall / (precision + recall + 1e-8), abs=1e-6)


@pytest.mark.parametrize(
    ("lines", "words", "expected"),
    [
        (["Hello World"], ["WORLD", "hello"], ["hello", "world"]),  # two words on a line
        (["HEL LO"], ["hello"], ["hello"]),  # one word split
        (["hellWorld", "o"], ["hello", "world"], ["hellworld", "o"]),  # letters of two lines are not one word
        (["worldhello"], ["hello", "world"], ["world", "hello"]),  # two words joined
        (["hello"], ["hello", "hello"], ["hello"]),  # read once, wanted twice
        (["hello", "hello"], ["hello"], ["hello", "hello"]),  # read twice, wanted once
        (["hel lo", "hello"], ["hello"], ["hel", "lo", "hello"]),  # the plain match comes first
        (["a b", "ab"], ["ab", "a"], ["a", "b", "ab"]),
        (["a b"], ["ab", "a"], ["a", "b"]),  # a line with a wanted word is not joined
        (["hel lo", "he llo"], ["hello"], ["hello", "he", "llo"]),  # nor is a word spelt twice
        (["abab", "aba"], ["ab", "a", "b", "aba"], ["ab", "a", "b", "aba"]),  # has to go on looking after `a`
        (["hello,"], ["hello"], ["hello,"]),  # punctuation counts
        (["", "  "], ["x"], []),
        ([], [], []),
    ],
)
def test_read_words_are_matched_to_wanted_words(lines: list[str], words: list[str], expected: list[str]) -> None:
    assert readings(lines, words) == expected


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("JOE\u2019S", "JOE'S"),
        ("CAFE\u0301", "caf\u00e9"),
        ("\uff33\uff21\uff2c\uff25", "SALE"),
        ("HEL\u200bLO", "hello"),
    ],
)
def test_ours_compare_words_as_they_read_and_marios_by_code_points(line: str, word: str) -> None:
    row = ocr_row([line], [word])
    assert (row["words_read"], row["all_read"], row["edits"], row["token_matches"]) == (1, 1, 0, 1)
    assert (row["mario_recall"], row["mario_accuracy"]) == (0, 0)
    assert ocr_row(["\u200b"], [])["all_read"] == 1


def test_edit_score_against_the_definition() -> None:
    read, wanted = ["sitting", "flaw"], ["kitten", "lawn"]
    score = edit_score(read, wanted)
    assert score.edits == levenshtein("sitting", "kitten") + levenshtein("flaw", "lawn") == 5
    assert score.similarity == pytest.approx((1 - 3 / 7) + (1 - 2 / 4))
    assert edit_score(read[::-1], wanted) == score  # order does not count


@pytest.mark.parametrize(
    ("read", "wanted", "similarity", "edits"),
    [
        ([], ["abc"], 0, 3),
        (["abc"], [], 0, 3),
        ([], [], 0, 0),
        (["abc", "xy"], ["abc"], 1, 2),
        (["abc"], ["abc", "xy"], 1, 2),
        (["abd"], ["abc"], 2 / 3, 1),
    ],
)
def test_words_without_a_partner(read: list[str], wanted: list[str], similarity: float, edits: int) -> None:
    score = edit_score(read, wanted)
    assert (score.similarity, score.edits) == (pytest.approx(similarity), edits)


def test_results_of_a_small_set_worked_out_by_hand() -> None:
    lines = [["HEL LO"], ["cat dog", "x"], []]
    targets = [["hello"], ["cat", "dog"], ["none"]]
    assert measured(lines, targets) == {
        "word_accuracy": pytest.approx(3 / 4),
        "sentence_accuracy": pytest.approx(1 / 3),
        "edit_similarity": pytest.approx(3 / 4),
        "cer": pytest.approx((0 + 1 + 4) / (5 + 6 + 4)),
        "micro_precision": pytest.approx(2 / 5),
        "micro_recall": pytest.approx(2 / 4),
        "micro_f1": pytest.approx(4 / 9),
        "mario_precision": pytest.approx(0),
        "mario_recall": pytest.approx(0),
        "mario_accuracy": pytest.approx(0),
        "mario_f": pytest.approx(0),
    }


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("the dogs' sign says 'AB'", ["sign", "says"]),  # MARIO's rule, to the letter
        ("a sign with 'Hello World'", ["hello", "world"]),
        ("mum's \"HELLO\" beside dad's", ["HELLO"]),
        ("“HELLO YOU”", ["HELLO", "YOU"]),
        ("dad's and mum's", []),
    ],
)
def test_marios_target_words_are_read_from_the_prompt(prompt: str, words: list[str]) -> None:
    assert mario_targets(prompt) == words


def test_marios_targets_count_in_marios_results_only() -> None:
    metric = OCRMetrics(Written([["sign", "says"], ["yes"]]))
    metric.update(pictures(0, 1), [["AB"], ["yes"]], [["sign", "says"], ["yes"]])
    results = {name: result.value for name, result in metric.compute().items()}
    assert (results["mario_accuracy"], results["word_accuracy"]) == (1, 0.5)
    with pytest.raises(ValueError, match="mario_targets has 1 entries"):
        metric.update(pictures(0, 1), [["AB"], ["yes"]], [["yes"]])


def test_results_carry_their_engine_interval_and_number() -> None:
    metric = OCRMetrics(Written([["yes"], ["no"]]))
    for _ in range(20):
        metric.update(pictures(0, 1), [["yes"], ["yes"]])
    results = metric.compute()
    assert {result.details["engine"] for result in results.values()} == {"written 1.0"}
    accuracy = results["word_accuracy"]
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert 0.3 < accuracy.low < accuracy.value == 0.5 < accuracy.high < 0.7
    assert accuracy.n == 40


def test_without_read_words_the_cer_is_one_and_other_scores_are_zero() -> None:
    results = measured([[], []], [["a"], ["bc"]])
    assert results["cer"] == 1
    assert all(value == 0 for name, value in results.items() if name != "cer")


def test_nothing_wanted_leaves_the_word_results_out() -> None:
    results = measured([[], ["noise"]], [[], []])
    assert set(results) == {"sentence_accuracy", "mario_accuracy", "mario_precision", "mario_recall", "mario_f"}
    assert results["sentence_accuracy"] == 0.5


def test_without_updates_there_are_no_results() -> None:
    assert OCRMetrics(Written([])).compute() == {}


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="targets has 1 entries"):
        OCRMetrics(Written([["a"]])).update(pictures(0, 0), [["a"]])
