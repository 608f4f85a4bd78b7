"""Which randomness a batch of a stage gets: that of its rows in the global batch, or of its samples."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import LightningModule

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.types import Batch

Stage = Literal["train", "val"]


def generators_for(
    module: LightningModule, batch: Batch, stage: Stage, batch_idx: int, seed: int, purpose: str
) -> SampleGenerators:
    """The draws of a batch, the same however many devices there are.

    In training a row's draws are a function of the seed, the purpose, the optimizer step and the row's place in the
    global batch: part ``m`` of the accumulated ones holds, on rank ``r`` of ``W``, the ``B`` rows from ``(m W + r) B``
    on, as :class:`~vlad_lightning.data.order.SampleOrder` deals them. In validation they are a function of the
    sample's key: its noise is fixed, whatever stands beside it.

    Args:
        module: knows the step, the device and the ranks.
        batch: B samples.
        stage: ``train`` or ``val``.
        batch_idx: of this device in the epoch.
        seed: of the draws.
        purpose: a name that tells these draws from others of the same seed.
    """
    if stage == "val":
        return SampleGenerators.of_samples(module.device, (seed, purpose, stage), batch.keys)
    trainer = module.trainer
    part = batch_idx % trainer.accumulate_grad_batches * trainer.world_size + module.global_rank
    size = len(batch) * trainer.world_size * trainer.accumulate_grad_batches
    rows = range(part * len(batch), (part + 1) * len(batch))
    return SampleGenerators.of_rows(module.device, (seed, purpose, stage, module.global_step), rows, size)
