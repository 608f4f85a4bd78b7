from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

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


# Each of two processes sees rows or none, and both compute; the first one tells.
GATHER = """
import json, sys
import torch
import torch.distributed as dist
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location("here", sys.argv[1])
here = module_from_spec(spec)
spec.loader.exec_module(here)
rank, cases = int(sys.argv[2]), json.loads(sys.argv[4])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
found = []
for shares in cases:
    metric = here.Mean()
    if shares[rank]:
        metric.update(torch.tensor([[float(v), -float(v)] for v in shares[rank]]))
    figure = metric.compute()["mean"]
    found.append([figure.value, figure.n])
if rank == 0:
    print(json.dumps(found))
dist.destroy_process_group()
"""


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


@pytest.mark.slow
def test_processes_gather_their_images(tmp_path: Path) -> None:
    cases = [[[1, 2, 3], [6]], [[1, 2], []], [[], [5]]]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GATHER, __file__, str(rank), str(tmp_path / "meet"), json.dumps(cases)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert json.loads(outputs[0]) == [[3, 4], [1.5, 2], [5, 1]]
