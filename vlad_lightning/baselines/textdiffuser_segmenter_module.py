"""LightningModule that trains TextDiffuser's character segmenter on true posters."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.baselines.textdiffuser_segmenter import CharacterSegmenter, at_latents
from vlad_lightning.data.charseg_data import CharsegBatch, CharsegDataModule
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mario import UNKNOWN
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size


class TextDiffuserSegmenterModule(LightningModule):
    """Training of a :class:`~vlad_lightning.baselines.textdiffuser_segmenter.CharacterSegmenter`.

    Args:
        segmenter: the network.
        optimization: learning rate and schedule.
    """

    def __init__(self, segmenter: CharacterSegmenter, optimization: Optimization = Optimization(lr=1e-3)) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.optimization = optimization

    def setup(self, stage: str) -> None:
        """Refuse data without maps of characters.

        Raises:
            ValueError: naming the data module.
        """
        check_charseg(self)

    def _step(self, batch: CharsegBatch, stage: str) -> Tensor:
        latents = self.segmenter.autoencoder.encode_images(batch.images)
        loss = self.segmenter.loss(latents, batch.charseg)
        size = logged_batch_size(self, batch)
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=size, sync_dist=stage != "train")
        return loss

    def training_step(self, batch: CharsegBatch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: CharsegBatch, batch_idx: int) -> None:
        """Log the cross-entropy of one batch, and which share of its characters' positions is classified rightly."""
        self._step(batch, "val")
        if batch.spare:
            return
        latents = self.segmenter.autoencoder.encode_images(batch.images)
        truth = at_latents(batch.charseg, (latents.shape[-2], latents.shape[-1]))
        letters = (truth > 0) & (truth != UNKNOWN)
        right = torch.where(letters, self.segmenter(latents).argmax(dim=1) == truth, False)
        count = int(letters.sum())
        share = right.sum() / max(count, 1)
        self.log("val/character_accuracy", share, prog_bar=True, batch_size=max(count, 1) * self.trainer.world_size)

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        return self.optimization.of_module(self)

    configure_gradient_clipping = clip_by_measured_norm


def check_charseg(module: LightningModule) -> None:
    """Refuse a data module of posters that gives no maps of characters.

    Raises:
        ValueError: naming the data module that does.
    """
    data = getattr(module.trainer, "datamodule", None)
    if isinstance(data, MarioDataModule) and not isinstance(data, CharsegDataModule):
        needed = f"{CharsegDataModule.__module__}.{CharsegDataModule.__qualname__}"
        raise ValueError(f"data is a {type(data).__name__}; characters are learned with class_path: {needed}")
