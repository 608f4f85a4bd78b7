"""A progress bar that shows the time left of the whole training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar, over all optimizer steps of a fit if ``max_steps`` is set.

    Lightning's own bar counts the batches of an epoch and shows the time left of the epoch.
    """

    @property
    def total_train_batches(self) -> int | float:
        """Optimizer steps of the fit; the batches of an epoch if the fit is not limited by steps."""
        return self.trainer.max_steps if self._by_steps else super().total_train_batches

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, once for all epochs."""
        if self._by_steps and self.train_progress_bar_id is not None:
            return  # the bar keeps its clock and speed across epochs
        super().on_train_epoch_start(trainer, pl_module)
        self._name(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the bar to the number of completed steps."""
        done = trainer.global_step - 1 if self._by_steps else batch_idx
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done)
        self._name(trainer)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the metrics shown beside the bar, without the loggers' version number."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    @property
    def _by_steps(self) -> bool:
        return self.trainer.max_steps > 0

    def _name(self, trainer: Trainer) -> None:
        if self.is_enabled and self._by_steps and self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description="step", completed=trainer.global_step)
