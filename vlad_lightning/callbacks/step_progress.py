"""A progress bar that shows the time left of the whole training."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

from vlad_lightning.callbacks.progress_lines import loss_of, validation_results

_LOSS_SECONDS = 1.0  # how often the loss is read, for which the device has to be waited for


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar, over all optimizer steps of a fit if ``max_steps`` is set.

    Lightning's own bar counts the batches of an epoch and shows the time left of the epoch. This one fits into 80
    columns: of the metrics it shows the loss, and the results of a validation are printed above it.
    """

    _loss: Any = None
    _shown = ""
    _read_at = 0.0

    @property
    def total_train_batches(self) -> int | float:
        """Optimizer steps of the fit; the batches of an epoch if the fit is not limited by steps."""
        return self.trainer.max_steps if self._by_steps else super().total_train_batches

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return Lightning's columns, but with the speed only once it is known, and the time left named as such."""
        description, bar, count, _, _ = super().configure_columns(trainer)
        return [description, bar, count, _Speed(), _TimeLeft()]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar; with ``max_steps`` once for all epochs, so that it keeps its clock and speed."""
        if self.train_progress_bar_id is None:
            self._show(trainer)
        elif self.progress is not None and not self._by_steps:
            name, total = f"epoch {trainer.current_epoch}", self.total_train_batches
            self.progress.reset(self.train_progress_bar_id, total=total, description=name, visible=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the bar to the number of completed steps."""
        if self.train_progress_bar_id is None:  # a fit that was resumed within an epoch does not start one
            self._show(trainer)
        self._loss = outputs
        done = trainer.global_step - 1 if self._by_steps else batch_idx
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the results of a validation within a fit above the bar."""
        super().on_validation_end(trainer, pl_module)
        if self.is_enabled and self.progress is not None and (results := validation_results(trainer)):
            self.progress.console.print(results, highlight=False)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the loss of the latest step, read once a second and at the last step."""
        now = time.monotonic()
        due = now - self._read_at >= _LOSS_SECONDS or trainer.global_step == trainer.max_steps
        if due and (loss := loss_of(self._loss)) is not None:
            self._shown, self._read_at = f"{loss:.3g}", now
        return {"loss": self._shown} if self._shown else {}

    @property
    def _by_steps(self) -> bool:
        return self.trainer.max_steps > 0

    def _show(self, trainer: Trainer) -> None:
        """Add the bar under its own name; Lightning would name it by the epoch first, such as ``Epoch 0/-2``."""
        if self.is_enabled and self.progress is not None:
            name, done = ("step", trainer.global_step) if self._by_steps else (f"epoch {trainer.current_epoch}", 0)
            self.train_progress_bar_id = self.progress.add_task(name, total=self.total_train_batches, completed=done)


class _Speed(ProgressColumn):
    """Steps or batches a second; empty as long as it is unknown."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


class _TimeLeft(ProgressColumn):
    """The time left; the time that it took once all is done."""

    max_refresh = 0.5  # seconds; it would flicker otherwise

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"in {_clock(task.finished_time or 0)}")
        return Text("" if task.time_remaining is None else f"{_clock(task.time_remaining)} left")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
