"""A progress bar that tells when the whole training ends."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Lightning's rich bar over all optimizer steps of a fit, where their number is set.

    Lightning's own counts the batches of an epoch, and its time left is that of the epoch.
    """

    @property
    def total_train_batches(self) -> int | float:
        """Optimizer steps of the fit; the batches of an epoch where the fit is not limited by steps."""
        return self.trainer.max_steps if self._by_steps else super().total_train_batches

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, once for all epochs."""
        if self._by_steps and self.train_progress_bar_id is not None:
            return  # its clock and its speed go on
        super().on_train_epoch_start(trainer, pl_module)
        self._name(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar to the steps done."""
        done = trainer.global_step - 1 if self._by_steps else batch_idx
        super().on_train_batch_end(trainer, pl_module, outputs, batch, done)
        self._name(trainer)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The metrics shown beside the bar, without the loggers' version."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    @property
    def _by_steps(self) -> bool:
        return self.trainer.max_steps > 0

    def _name(self, trainer: Trainer) -> None:
        if self.is_enabled and self._by_steps and self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description="step", completed=trainer.global_step)
