from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.per_image import PerImageMetric, Share, image_id
from vlad_lightning.types import MetricResult


class Mean(PerImageMetric):
    columns = ("value", "other")

    def update(self, rows: Tensor) -> None:
        self.append(rows)

    def compute(self) -> dict[str, MetricResult]:
        values = self.table()["value"]
        return {"mean": ratio_result(values, np.ones_like(values), self.generator(), most=None)} if len(values) else {}


def test_columns_come_back_by_name() -> None:
    metric = Mean()
    metric.update(torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
    metric.update(torch.tensor([[3.0, 30.0]]))
    assert metric.table()["value"].tolist() == [1, 2, 3]
    assert metric.table()["other"].tolist() == [10, 20, 30]
    assert metric.compute()["mean"].value == 2


def test_computing_twice_and_after_pickling_gives_the_same() -> None:
    metric = Mean(seed=3)
    metric.update(torch.arange(20.0).view(10, 2))
    copy = pickle.loads(pickle.dumps(metric))
    first = metric.compute()
    metric.update(torch.zeros(0, 2))  # drops the cached result
    assert first == metric.compute() == copy.compute()


def test_reset_clears_the_rows_and_no_rows_are_accepted() -> None:
    metric = Mean()
    metric.update(torch.ones(1, 2))
    assert metric.compute()
    metric.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute() == {}


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows has shape \(2, 3\)"):
        Mean().update(torch.ones(2, 3))


class Shares(PerImageMetric):
    columns = ("part", "whole")

    def update(self, rows: list[list[float]], keys: Sequence[str] = ()) -> None:
        self.append(torch.tensor(rows), keys)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        return {
            "share": Share(table["part"], table["whole"]),
            "of_nothing": Share(table["part"], np.zeros_like(table["whole"])),
        }


def test_an_image_is_named_by_the_hash_of_its_key() -> None:
    assert image_id("00000_000000123") == hashlib.sha256(b"00000_000000123").hexdigest()[:16]
    assert len(image_id("fête \udcff")) == 16


def test_the_rows_of_the_images_give_the_result() -> None:
    metric = Shares()
    metric.update([[1, 2], [0, 0]], ["a", "b"])
    metric.update([[3, 3]], ["c"])
    assert metric.per_image() == {"share": {image_id("a"): (1, 2), image_id("b"): (0, 0), image_id("c"): (3, 3)}}
    results = metric.compute()
    assert {name: (result.value, result.n) for name, result in results.items()} == {"share": (0.8, 5)}
    metric.reset()
    assert metric.per_image() == {} == metric.compute()


def test_an_image_that_is_seen_twice_counts_twice_and_one_without_a_key_in_the_result_alone() -> None:
    metric = Shares()
    metric.update([[1, 2], [0, 1]], ["a", "a"])
    metric.update([[1, 1]])
    assert metric.per_image() == {"share": {image_id("a"): (1, 3)}}
    assert metric.compute()["share"].value == 0.5
    nameless = Shares()
    nameless.update([[1, 1]])
    assert nameless.per_image() == {}


def test_names_survive_a_metric_in_bfloat16() -> None:
    keys = [str(i) for i in range(100)]
    metric = Shares()
    metric.set_dtype(torch.bfloat16)
    metric.update([[1, 1]] * 100, keys)
    assert metric.rows[0].dtype == torch.bfloat16
    assert list(metric.per_image()["share"]) == [image_id(key) for key in keys]


def test_a_name_that_starts_with_zeros_is_a_name() -> None:
    key = next(key for key in map(str, range(10_000)) if image_id(key).startswith("00"))
    metric = Shares()
    metric.update([[1, 2]], [key])
    assert metric.per_image() == {"share": {image_id(key): (1, 2)}}


def test_too_few_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="keys has 1 entries"):
        Shares().update([[1, 1], [1, 1]], ["a"])


def test_images_of_another_process_are_gathered_and_given_back() -> None:
    mine, other = Shares(), Shares()
    mine.update([[1, 2]], ["mine"])
    other.update([[3, 3], [0, 5]], ["other", "last"])
    mine.distributed_available_fn = lambda: True
    mine.dist_sync_fn = lambda state, group: [state, other.rows[0]]
    everything = {image_id("mine"): (1, 2), image_id("other"): (3, 3), image_id("last"): (0, 5)}
    assert mine.per_image() == {"share": everything} == mine.per_image()
    assert mine.compute()["share"].value == 0.4
    assert mine.ids() == [image_id("mine")]
