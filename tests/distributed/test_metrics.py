"""Compare metrics over several processes, each with different images or none, with one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from distributed.processes import run_processes
from numpy.typing import NDArray

from vlad_lightning.metrics.per_image import PerImageMetric, Share, image_id

SHARES = ([[1.0, 2.0, 3.0], [6.0]], [[1.0, 2.0], []], [[], [5.0]])


class Mean(PerImageMetric):
    columns = ("value", "one")

    def update(self, values: list[float]) -> None:
        self.append(torch.tensor([[value, 1.0] for value in values]), [str(value) for value in values])

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        return {"mean": Share(table["value"], table["one"])}


def work(folder: Path) -> None:
    dist.init_process_group("gloo")
    found = []
    for shares in SHARES:
        metric = Mean()
        if mine := shares[dist.get_rank()]:
            metric.update(mine)
        result = metric.compute()["mean"]
        found.append([result.value, result.n, metric.per_image()["mean"]])
    Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_gather_their_images(tmp_path: Path) -> None:
    run_processes(2, Path(__file__), str(tmp_path))
    for rank in range(2):
        found = json.loads(Path(tmp_path, f"{rank}.json").read_text())
        assert [[value, n] for value, n, _ in found] == [[3, 4], [1.5, 2], [5, 1]]
        for shares, (_, _, images) in zip(SHARES, found, strict=True):
            assert images == {image_id(str(value)): [value, 1] for share in shares for value in share}


if __name__ == "__main__":
    work(Path(sys.argv[1]))
