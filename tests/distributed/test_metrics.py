"""Metrics that each process fed with images of its own, or with none, against the same images in one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from distributed.processes import run_processes
from torch import Tensor

from vlad_lightning.metrics.bootstrap import mean_figure
from vlad_lightning.metrics.per_image import PerImageMetric
from vlad_lightning.types import Figure

SHARES = ([[1.0, 2.0, 3.0], [6.0]], [[1.0, 2.0], []], [[], [5.0]])


class Mean(PerImageMetric):
    columns = ("value", "other")

    def update(self, values: list[float]) -> None:
        self.append(torch.tensor([[value, -value] for value in values]))

    def compute(self) -> dict[str, Figure]:
        values: Tensor = self.table()["value"]
        return {"mean": mean_figure(values, self.generator())}


def work(folder: Path) -> None:
    dist.init_process_group("gloo")
    found = []
    for shares in SHARES:
        metric = Mean()
        if mine := shares[dist.get_rank()]:
            metric.update(mine)
        figure = metric.compute()["mean"]
        found.append([figure.value, figure.n])
    Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_gather_their_images(tmp_path: Path) -> None:
    run_processes(2, Path(__file__), str(tmp_path))
    for rank in range(2):
        assert json.loads(Path(tmp_path, f"{rank}.json").read_text()) == [[3, 4], [1.5, 2], [5, 1]]


if __name__ == "__main__":
    work(Path(sys.argv[1]))
