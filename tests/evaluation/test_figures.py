from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.evaluation.figures import Figure, figures_of, results_of
from vlad_lightning.evaluation.plain_suite import PromptMeasure
from vlad_lightning.evaluation.row_file import Row
from vlad_lightning.evaluation.suite import Item, Pooled, Seen
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.ocr import mario_f, ocr_row
from vlad_lightning.metrics.per_image import Share


class Halves:
    """A measure with a precision and a recall of its own."""

    name = "half"
    columns = ("read", "wanted", "right")

    def row(self, item: Item, seen: Seen) -> Mapping[str, float]:
        return {}

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> Mapping[str, Share]:
        return {
            "precision": Share(table["right"], table["read"]),
            "recall": Share(table["right"], table["wanted"]),
            "none": Share(np.zeros_like(table["read"]), np.zeros_like(table["read"])),
        }


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_equal_images_of_a_prompt_count_once_in_the_interval() -> None:
    """Four times the same image of each prompt has the interval of one image of each."""
    parts = rng().random(40)
    single = ratio_result(parts, np.ones(40), rng())
    keys = [f"{i:02}" for i in range(40)]
    figure = Figure((np.repeat(parts, 4), np.ones(160)))
    found = figure.result([key for key in keys for _ in range(4)], rng())
    assert (found.value, found.low, found.high) == pytest.approx((single.value, single.low, single.high))
    assert found.n == 160
    alone = figure.result([str(i) for i in range(160)], rng())
    assert alone.high is not None
    assert found.high is not None
    assert found.high - found.value > 1.5 * (alone.high - alone.value)  # twice, for four images that are the same


def test_an_interval_covers_the_mean_of_clusters_as_often_as_it_says() -> None:
    """Values of a prompt share an effect: of 200 intervals about 95 % hold the true mean."""
    drawn, inside = rng(), 0
    keys = [str(i // 4) for i in range(200)]
    for _ in range(200):
        values = 0.5 + np.repeat(drawn.normal(0, 0.1, 50), 4) + drawn.normal(0, 0.05, 200)
        found = Figure((values, np.ones(200)), most=None).result(keys, drawn, 400)
        inside += found.low is not None and found.high is not None and found.low <= 0.5 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_a_share_of_one_has_wilsons_interval_over_the_prompts() -> None:
    found = Figure((np.ones(40), np.ones(40))).result([str(i // 4) for i in range(40)], rng())
    wilson = stats.binomtest(10, 10).proportion_ci(method="wilson")
    assert found.value == 1
    assert found.low == pytest.approx(wilson.low)


def test_f_is_that_of_pooled_precision_and_recall() -> None:
    rows: list[Row] = [
        {"half_read": "4", "half_wanted": "2", "half_right": "2"},
        {"half_read": "4", "half_wanted": "2", "half_right": "0"},
    ]
    found = results_of(figures_of([Halves()], rows), ["a", "b"], seed=0)
    assert list(found) == ["half_precision", "half_recall", "half_f"]  # a share of nothing is no figure
    assert found["half_f"].value == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert found["half_f"].low == 0  # b alone


def test_marios_f_is_the_f_of_the_means() -> None:
    """Not the mean of F, and none beside micro_f1."""
    read = [["hello", "x"], ["open"], []]
    wanted = ["hello world", "open", "coffee"]
    measured = [ocr_row(lines, words.split()) for lines, words in zip(read, wanted, strict=True)]
    rows = [{name: repr(float(value)) for name, value in row.items()} for row in measured]
    figures = figures_of([PromptMeasure()], rows)
    precision, recall = (np.array([row[f"mario_{name}"] for row in measured]) for name in ("precision", "recall"))
    assert figures["mario_f"].value() == pytest.approx(float(mario_f(precision, recall)))
    assert "micro_f" not in figures
    assert figures["word_accuracy"].value() == pytest.approx(2 / 4)


class Middle(Halves):
    """A measure with a figure that is no share: the median."""

    def pooled(self, table: Mapping[str, NDArray[np.float64]]) -> Mapping[str, Pooled]:
        return {"median": Pooled(np.median, (table["read"],))}


def test_other_figures_have_an_interval_over_prompts_too() -> None:
    rows: list[Row] = [{"half_read": str(i // 4), "half_wanted": "1", "half_right": "0"} for i in range(160)]
    keys = [str(i // 4) for i in range(160)]
    found = results_of(figures_of([Middle()], rows), keys, seed=0, resamples=500)["half_median"]
    assert found.value == 19.5
    expected = stats.bootstrap((np.arange(40.0),), np.median, n_resamples=4000, method="percentile", rng=rng())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=1.5)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=1.5)
    assert found.n == 160


def test_a_figure_over_some_images() -> None:
    figure = Figure((np.array([1.0, 0.0, 3.0]), np.array([1.0, 1.0, 4.0])))
    assert figure.at(np.array([True, False, True])).value() == pytest.approx(4 / 5)
    assert figure.by_prompt(["b", "a", "b"]) == {"a": [0.0, 1.0], "b": [4.0, 5.0]}
    assert not Figure((np.zeros(2), np.zeros(2))).known
