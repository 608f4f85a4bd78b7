"""How much a batch counts in a mean that Lightning takes over an epoch and over devices."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from vlad_lightning.types import Batch


def weight_of(module: LightningModule, batch: Batch) -> int:
    """The ``batch_size`` of ``LightningModule.log``: 0 for a spare batch.

    It is multiplied by the number of devices because Lightning divides the sum of these integers by it and rounds
    down: 13 samples on two devices would count as 6 a device, and the mean would come out too large.
    """
    return batch.counted * module.trainer.world_size
