"""LightningModule that trains the object detector of the ``object_*`` metrics on true posters."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.data.scene_data import SceneBatch
from vlad_lightning.layout.scene_objects import KINDS
from vlad_lightning.models.object_augmentation import NUMBERS, ObjectAugmentation, palette_colours
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.models.object_targets import count_hits, detection_loss
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm
from vlad_lightning.modules.rng import generators_for
from vlad_lightning.modules.settings import check_size

_SHARES = {"recall": (2, 0), "precision": (2, 1), "shape": (3, 0), "colour": (4, 0)}  # of count_hits


class ObjectDetectionModule(LightningModule):
    """Training of an :class:`~vlad_lightning.models.object_detector.ObjectDetector` on posters with a known scene.

    Args:
        detector: the network.
        optimization: learning rate and schedule.
        augmentation: changes the posters in training; in validation they stay unchanged.
        seed: seed of the augmentation.
    """

    palette: Tensor

    def __init__(
        self,
        detector: ObjectDetector,
        optimization: Optimization = Optimization(lr=3e-3),
        augmentation: ObjectAugmentation = ObjectAugmentation(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.optimization = optimization
        self.augmentation = augmentation
        self.seed = seed
        self.register_buffer("palette", palette_colours(), persistent=False)
        self._counts: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Refuse posters that are smaller than the detector's frame.

        Raises:
            ValueError: naming both settings.
        """
        check_size(self, "model.detector.size", self.detector.size)

    def training_step(self, batch: SceneBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of augmented posters."""
        generators = generators_for(self, cast(Any, batch), "train", batch_idx, self.seed, "objects")
        drawn, noise = generators.uniform(NUMBERS), generators.normal(*batch.images.shape[1:])
        images, objects = self.augmentation(batch.images, batch.things, drawn, noise, self.palette)
        loss = detection_loss(self.detector(images), objects)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: SceneBatch, batch_idx: int) -> None:
        """Log the loss of one batch, and count how many of its objects are found."""
        loss = detection_loss(self.detector(batch.images), batch.things)
        size = batch.counted * self.trainer.world_size  # as in logged_batch_size
        self.log("val/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        if not batch.spare:
            self._counts.append(count_hits(self.detector.detect(batch.images), batch.things))

    def on_validation_epoch_end(self) -> None:
        """Log recall, precision, and the shares of right shapes and colours, over the whole set and all ranks."""
        own = torch.stack([count_hits([], torch.zeros(0, 1, 7)), *self._counts]).sum(0).to(self.device)
        self._counts.clear()
        counts = cast(Tensor, self.all_gather(own)).view(-1, len(own)).sum(0).tolist()
        if not counts[0]:
            return
        self.log_dict({f"val/{name}": counts[i] / max(counts[j], 1) for name, (i, j) in _SHARES.items()}, prog_bar=True)
        kinds = (len(counts) - 5) // 2
        every, right = counts[5 : 5 + kinds], counts[5 + kinds :]
        self.log_dict({f"val/{name}": right[i] / every[i] for i, name in enumerate(KINDS) if name and every[i]})

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    configure_gradient_clipping = clip_by_measured_norm

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        return self.optimization.of_module(self)
