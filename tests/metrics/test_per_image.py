from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from torch import Tensor

from vlad_lightning.metrics.bootstrap import mean_figure
from vlad_lightning.metrics.per_image import PerImageMetric
from vlad_lightning.types import Figure


class Mean(PerImageMetric):
    columns = ("value", "other")

    def update(self, rows: Tensor) -> None:
        self.append(rows)

    def compute(self) -> dict[str, Figure]:
        values = self.table()["value"]
        return {"mean": mean_figure(values, self.generator())} if len(values) else {}


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


def test_reset_forgets_and_nothing_is_no_crash() -> None:
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
