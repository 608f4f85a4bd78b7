"""A fit that goes on in the middle of an epoch does so at the right sample, also on another number of devices."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.data.datamodule import MarioDataModule

_PROGRESS, _STATE = "epoch_loop.batch_progress", "epoch_loop.state_dict"


class ExactResume(Callback):
    """Has Lightning's fit loop count the batches of an epoch as the data module's order deals them.

    Lightning saves how many batches *one device* has seen, and goes on counting there: when to step, when the epoch
    ends. That number is another one where the devices or the accumulated parts are others. And where a checkpoint was
    saved between two steps, the gradients accumulated so far are lost with the process, so their batches come again.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the counters before Lightning reads them."""
        data = getattr(trainer, "datamodule", None)
        loop = checkpoint.get("loops", {}).get("fit_loop", {})
        if not isinstance(data, MarioDataModule) or data.resumed_at is None or _PROGRESS not in loop:
            return
        order, epoch_ended = data.order, loop[_PROGRESS]["is_last_batch"]
        epochs, place = divmod(data.resumed_at, order.samples)
        seen = order.steps_before(data.resumed_at) * order.parts
        if epoch_ended and place == 0:
            epochs, seen = epochs - 1, data.batches_an_epoch
        _move(loop[_PROGRESS]["current"], seen)
        last_ends = _move(loop[_PROGRESS]["total"], epochs * data.batches_an_epoch + seen)
        if last_ends:  # Lightning will end the last batch, and count its step for the loggers once more
            stepped = min(loop[_STATE]["_batches_that_stepped"], checkpoint["global_step"] - 1)
            loop[_STATE]["_batches_that_stepped"] = stepped


def _move(counters: dict[str, int], seen: int) -> bool:
    """Set the counters to so many batches; returns whether the last one's end was not counted when they were saved."""
    ends = counters["completed"] < counters["processed"]
    counters.update(ready=seen, started=seen, processed=seen, completed=seen - ends)
    return ends
