from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from poisoned import Regression, Rows, weights
from torch import Tensor
from torch.utils.data import DataLoader

from vlad_lightning.health import ThroughputLogger

PAUSE = 0.02  # seconds


class Slow(Rows):
    """Rows that load slowly."""

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(PAUSE / 2)
        return super().__getitem__(index)


def fit(tmp_path: Path, steps: int, *others: Callback, data: Any = None, **changes: Any) -> tuple[Any, list[Any], Any]:
    speed, module = ThroughputLogger(count_flops=True), Regression()
    logged = {"logger": CSVLogger(tmp_path, name="", version=""), "log_every_n_steps": 2}
    trainer = tiny.trainer(steps, callbacks=[*others, speed], enable_checkpointing=bool(others), **logged | changes)
    trainer.fit(module, data or DataLoader(Rows(64), batch_size=2))
    with (tmp_path / "metrics.csv").open() as file:
        return speed, list(csv.DictReader(file)), module


def test_results_agree_with_each_other(tmp_path: Path) -> None:
    speed, table, _ = fit(tmp_path, 12, log_every_n_steps=4)
    assert len(table) == 3
    for row in table:
        step = float(row["throughput/step_s"])
        assert float(row["throughput/images_per_s"]) == pytest.approx(2 / step)
        assert 0 <= float(row["throughput/data_wait_share"]) <= 1
        assert float(row["throughput/tflops_per_device"]) == pytest.approx(speed.flops / step / 1e12)
        assert float(row["throughput/peak_memory_gib"]) > 0.05
        assert "throughput/mfu" not in row  # the peak of a CPU is unknown
    assert speed.samples == 24
    assert speed.total.samples == 22  # without the first step
    assert speed.total.steps == 11


def test_waiting_for_slow_data_is_measured(tmp_path: Path) -> None:
    speed, _, _ = fit(tmp_path, 6, data=DataLoader(Slow(64), batch_size=2))
    assert speed.total.waiting >= 4 * PAUSE
    assert speed.total.wait_share == speed.total.waiting / speed.total.seconds


def test_checkpoints_do_not_count_as_waiting_for_data(tmp_path: Path) -> None:
    speed, _, _ = fit(tmp_path, 4, ModelCheckpoint(tmp_path, every_n_train_steps=1))
    assert speed.total.batches == 3
    assert speed.total.waiting == 0  # each batch was followed by a checkpoint


def test_flops_equal_those_of_two_linear_layers(tmp_path: Path) -> None:
    speed, _, _ = fit(tmp_path, 2)
    forward = 2 * 2 * (4 * 8 + 8 * 1)  # multiplication and addition, two rows
    backward = forward + 2 * 2 * 8 * 1  # each weight's gradient, and the input's of the second layer only
    assert speed.flops == forward + backward


def test_accumulated_batches_count_as_one_step(tmp_path: Path) -> None:
    speed, table, _ = fit(tmp_path, 6, accumulate_grad_batches=3, log_every_n_steps=2)
    assert (speed.total.steps, speed.total.batches, speed.samples) == (5, 15, 36)
    assert float(table[-1]["throughput/images_per_s"]) == pytest.approx(6 / float(table[-1]["throughput/step_s"]))


def test_counting_changes_nothing(tmp_path: Path) -> None:
    plain = Regression()
    tiny.trainer(6).fit(plain, DataLoader(Rows(64), batch_size=2))
    _, _, module = fit(tmp_path, 6)
    assert all(torch.equal(v, weights(module)[k]) for k, v in weights(plain).items())


def test_broken_first_batch_leaves_no_counter_behind(tmp_path: Path) -> None:
    class Broken(Regression):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            raise RuntimeError("no training today")

    speed = ThroughputLogger(count_flops=True)
    with pytest.raises(RuntimeError, match="no training today"):
        tiny.trainer(1, callbacks=[speed]).fit(Broken(), DataLoader(Rows(8), batch_size=2))
    before = speed.flops
    torch.ones(3, 3) @ torch.ones(3, 3)
    assert speed._counter is None
    assert speed.flops == before
