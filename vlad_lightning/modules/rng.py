"""Random generators of a batch: by its rows in the global batch in training, by its samples' keys in validation."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import LightningModule

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.types import Batch

Stage = Literal["train", "val"]


def generators_for(
    module: LightningModule, batch: Batch, stage: Stage, batch_idx: int, seed: int, purpose: str
) -> SampleGenerators:
    """Return the random generators of a batch, which do not depend on the number of devices.

    In training a row's draws depend on the seed, the purpose, the optimizer step and the row's index in the global
    batch: accumulated batch ``m`` holds, on rank ``r`` of ``W``, the ``B`` rows from ``(m W + r) B`` on, as
    :class:`~vlad_lightning.data.order.SampleOrder` assigns them. In validation they depend on the seed, the purpose and
    the sample's key, so a sample's noise is fixed, whatever else is in its batch.

    Args:
        module: provides the step, the device and the rank.
        batch: B samples.
        stage: ``train`` or ``val``.
        batch_idx: index of the batch on this device in the epoch.
        seed: seed of the draws.
        purpose: a name that separates these draws from others with the same seed.
    """
    if stage == "val":
        return SampleGenerators.of_samples(module.device, (seed, purpose, stage), batch.keys)
    trainer = module.trainer
    part = batch_idx % trainer.accumulate_grad_batches * trainer.world_size + module.global_rank
    size = len(batch) * trainer.world_size * trainer.accumulate_grad_batches
    rows = range(part * len(batch), (part + 1) * len(batch))
    return SampleGenerators.of_rows(module.device, (seed, purpose, stage, module.global_step), rows, size)
