"""Fit the tiny system on one device, for the tests in tests/gpu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny_system as tiny
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from vlad_lightning.generation import ImageGenerator
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.optimization import Optimization
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import Batch

STILL = LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0)
FUSED = tiny.LATENT + 4


class Losses(Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(float(outputs["loss"]))


def stage_2(
    acceleration: Acceleration = Acceleration(), lora: Lora | None = None, widened: bool = False, fused: bool = False
) -> VFEModule:
    """Build the tiny stage 2 from one seed; ``widened`` like a published UNet."""
    torch.manual_seed(0)
    fusion = LatentFusion(tiny.LATENT, tiny.LATENT, tiny.WIDTH, FUSED, time_width=16)
    network = VFE(fusion, tiny.unet(tiny.LATENT if widened else FUSED), lora=lora, acceleration=acceleration)
    image_generator = ImageGenerator(
        tiny.prompt_encoder(tiny.LORA), network, tiny.image_generator().autoencoder, tiny.schedule(), tiny.SIZE
    )
    optimization = Optimization(lr=3e-3, warmup_steps=0, schedule="constant", fused=fused)
    return VFEModule(image_generator, tiny.image_encoder(), tiny.layout_generator(), STILL, optimization)


def batch_of(posters: Path) -> Batch:
    """Build a batch of four posters."""
    batch: Batch = next(iter(tiny.data(posters, batch_size=4).val_dataloader()))
    return batch


def fit(
    module: VFEModule,
    batch: Batch,
    device: torch.device,
    steps: int = 4,
    callbacks: Sequence[Callback] = (),
    ckpt_path: str | None = None,
    **changes: Any,
) -> tuple[Trainer, list[float]]:
    """Train on one batch up to ``steps``; return the trainer and the loss of each step."""
    losses = Losses()
    loader: DataLoader[Any] = DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]
    settings = {"accelerator": "gpu" if device.type == "cuda" else "cpu", "devices": 1}
    trainer = tiny.trainer(steps, **settings | changes, callbacks=[losses, *callbacks])
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer, losses.seen
