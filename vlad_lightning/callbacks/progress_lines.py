"""Progress in plain lines, for output that no terminal shows: a file, a pipe, a job's log, a notebook."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor


class ProgressLines(ProgressBar):
    """A line after the first step and then every ``seconds``: step, of how many, loss, steps a second, time left.

    A validation ends with a line of its results; tests and predictions count their batches.

    Args:
        seconds: time between two lines.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        super().__init__()
        if seconds < 0:
            raise ValueError(f"seconds is {seconds}; must be at least 0")
        self.seconds = seconds
        self._enabled = True
        self._begin(0)

    def disable(self) -> None:
        """Print nothing, as on every rank but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock at the step that a resumed fit goes on from."""
        self._begin(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if it is time; only then the device is waited for."""
        step, total = trainer.global_step, trainer.estimated_stepping_batches
        if step > self._done and self._due(step, total):
            self._say("step", ("step", "steps"), step, total, loss_of(outputs))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line of the results of a validation within a fit."""
        self.reset_dataloader_idx_tracker()
        if self._enabled and (results := validation_results(trainer)):
            print(results, flush=True)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin(0)

    on_predict_start = on_test_start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a validation that is no part of a fit."""
        if trainer.state.fn != "fit":
            self._begin(0)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time."""
        self._count(self.test_description, trainer.num_test_batches, batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time."""
        self._count(self.predict_description, trainer.num_predict_batches, batch_idx, dataloader_idx)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time, in a validation that is no part of a fit."""
        if trainer.state.fn != "fit":
            self._count(self.validation_description, trainer.num_val_batches, batch_idx, dataloader_idx)

    def _count(self, what: str, batches: int | float | list[int | float], batch: int, loader: int) -> None:
        sizes = batches if isinstance(batches, list) else [batches]
        done, total = sum(sizes[:loader]) + batch + 1, sum(sizes)
        if self._due(done, total):
            self._say(f"{what}: batch", ("batch", "batches"), done, total, None)

    def _begin(self, done: int) -> None:
        self._start = self._done = done  # what the first and the last line counted
        self._since = self._said = time.monotonic()

    def _due(self, done: float, total: float) -> bool:
        first = self._done == self._start
        return self._enabled and (first or done >= total or time.monotonic() - self._said >= self.seconds)

    def _say(self, what: str, unit: tuple[str, str], done: float, total: float, loss: float | None) -> None:
        now = time.monotonic()
        words = [f"{what} {done:.0f}" + (f"/{total:.0f}" if math.isfinite(total) and total > 0 else "")]
        words += [] if loss is None else [f"loss {loss:.4g}"]
        if self._done > self._start and now > self._said:  # the time of the first step is not that of the others
            rate = (done - self._done) / (now - self._said)
            words.append(f"{rate:.3g} {unit[1]}/s" if rate >= 1 else f"{1 / rate:.3g} s/{unit[0]}")
            if total > done and math.isfinite(total):
                words.append(f"{timedelta(seconds=int((total - done) / rate))} left")
        print(", ".join(words), flush=True)
        self._done, self._said = int(done), now


def loss_of(outputs: Any) -> float | None:
    """Return the loss of a training step; None if the step returned none. Reading it waits for the device."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return float(loss) if isinstance(loss, Tensor | float) else None


def validation_results(trainer: Trainer) -> str:
    """Return a line of the results of a validation within a fit; empty without results and in the sanity check."""
    if trainer.state.fn != "fit" or trainer.sanity_checking:
        return ""
    found = {name: float(value) for name, value in trainer.progress_bar_metrics.items() if name.startswith("val")}
    return f"step {trainer.global_step}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()) if found else ""
