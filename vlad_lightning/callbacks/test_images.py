"""Callback that keeps the first images of a test as files, so that systems can be shown beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torchvision.transforms.functional import to_pil_image

from vlad_lightning.files import save_picture
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.types import GeneratedImages


class TestImages(Callback):
    """Writer of ``{key}.png`` for the first images that a test generates for true posters; a PNG holds its prompt.

    Args:
        out: the folder.
        samples: how many images are kept.

    Raises:
        ValueError: if ``samples`` is below 1.
    """

    __test__ = False  # for pytest, whose tests may have such names

    def __init__(self, out: str, samples: int = 8) -> None:
        if samples < 1:
            raise ValueError(f"samples is {samples}; it must be at least 1")
        self.out, self.samples = out, samples
        self._kept = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to count."""
        self._kept = 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the images of a batch in the first process, until there are enough."""
        if dataloader_idx or not trainer.is_global_zero or not isinstance(outputs, Mapping):
            return
        generated: GeneratedImages = outputs["generated"]
        rows = list(zip(generated.keys, generated.prompts, generated.images.cpu(), strict=True))
        for key, prompt, image in rows[: self.samples - self._kept]:
            save_picture(to_pil_image(to_bytes(image)), Path(self.out, f"{key}.png"), {"prompt": prompt})
            self._kept += 1
