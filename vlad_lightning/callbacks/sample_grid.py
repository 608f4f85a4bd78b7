"""Sheets of samples of the validation's prompts while a stage trains, and as a PNG at the end of a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.callbacks.grid import sample_grid
from vlad_lightning.callbacks.sample_sheets import SampleSheets, caption, draw, draws
from vlad_lightning.files import write_file
from vlad_lightning.types import Batch, GeneratedImages


class SampleGrid(Callback):
    """Sheets of samples for the first validation prompts; in a test, of the first generated images.

    The module's ``draw(prompts, keys)`` returns :class:`GeneratedImages` (stage 2) or layouts (stage 1). A fit writes
    ``samples/validation-000000500.png`` into its folder and into every logger that takes pictures; the first sheet is
    that of Lightning's sanity check, before the first step.

    Args:
        samples: pictures per grid.
        columns: pictures per row.
        out: PNG file that a test writes; None writes none.
        prompts_out: the same for prompts that have no true images; None writes none.
    """

    def __init__(
        self, samples: int = 16, columns: int = 8, out: str | None = None, prompts_out: str | None = None
    ) -> None:
        if samples < 1 or columns < 1:
            raise ValueError(f"samples is {samples} and columns {columns}; both must be at least 1")
        self.samples = samples
        self.columns = columns
        self.outs = (out, prompts_out)
        self._sheets: SampleSheets | None = None
        self._tested: tuple[list[GeneratedImages], list[GeneratedImages]] = ([], [])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run's folder."""
        self._sheets = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the folder, on every rank."""
        if self._sheets is None:
            self._sheets = SampleSheets(trainer, "validation")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show samples for the prompts of the first batch, in the sanity check before the first step too."""
        if batch_idx > 0 or self._sheets is None or not draws(trainer, pl_module):
            return
        prompts = batch.prompts[: self.samples]
        drawn = draw(trainer, pl_module, prompts, batch.keys[: self.samples])
        if not trainer.is_global_zero:  # it only took part in gathering the weights
            return
        captions = [caption(prompt, layout.words) for prompt, layout in zip(prompts, batch.layouts, strict=False)]
        self._sheets.show(trainer, drawn, captions, self.columns)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first generated images of each loader."""
        tested = self._tested[dataloader_idx]
        if isinstance(outputs, Mapping) and sum(len(p.images) for p in tested) < self.samples:
            tested.append(outputs["generated"])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the grids."""
        for tested, out in zip(self._tested, self.outs, strict=True):
            if tested and out and trainer.is_global_zero:
                images = torch.cat([p.images.cpu() for p in tested])[: self.samples]
                prompts = [prompt for p in tested for prompt in p.prompts][: self.samples]
                figure = sample_grid(images, [caption(prompt, ()) for prompt in prompts], self.columns)
                write_file(Path(out), figure.savefig)
            tested.clear()
