"""A callback that resumes a fit in the middle of an epoch at the right sample, also on another number of devices."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.lightning_internals import LOOP_STEPS

_EPOCHS, _BATCHES, _STATE = "epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"


class ExactResume(Callback):
    """A callback that makes Lightning's fit loop count the batches of an epoch as the data module's order deals them.

    Lightning saves how many batches *one device* has seen, and continues that count to decide when to step and when
    the epoch ends. With another number of devices or accumulated batches the count differs. If a checkpoint was saved
    between two steps, the gradients accumulated so far are lost with the process, so their batches are repeated. For a
    checkpoint saved at an epoch's end, Lightning would count a batch of the next epoch to the last epoch; its counters
    are set as if it had been saved after the last batch.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the counters before Lightning reads them."""
        data = getattr(trainer, "datamodule", None)
        loop = checkpoint.get("loops", {}).get("fit_loop", {})
        if not isinstance(data, MarioDataModule) or _BATCHES not in loop:
            return
        if data.resumed_at is None:  # another data module's checkpoint: treated as if its steps had used this order
            data.resume_at(checkpoint["global_step"])
        position = data.resumed_at or 0
        epoch, seen = position // data.order().samples, data.batches_before(position)
        current, total = loop[_BATCHES]["current"], loop[_BATCHES]["total"]
        ends = current["completed"] < current["processed"]  # the end of the last batch was not yet counted
        if loop[_BATCHES]["is_last_batch"] and position % data.order().samples == 0:
            epoch, seen, ends = epoch - 1, data.batches_an_epoch(), True
        _set(current, seen, ended=seen - ends)
        _set(total, epoch * data.batches_an_epoch() + seen, ended=epoch * data.batches_an_epoch() + seen - ends)
        for counters in loop[_EPOCHS].values():
            counters.update(ready=epoch + 1, started=epoch + 1, processed=epoch, completed=epoch)
        if ends:  # Lightning will count the last batch's step again for its loggers
            loop[_STATE][LOOP_STEPS] = checkpoint["global_step"] - 1


def _set(counters: dict[str, int], seen: int, ended: int) -> None:
    counters.update(ready=seen, started=seen, processed=seen, completed=ended)
