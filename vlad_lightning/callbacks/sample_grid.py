"""Sample grids in TensorBoard while a stage trains, and as a PNG at the end of a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from vlad_lightning.callbacks.grid import layout_grid, sample_grid
from vlad_lightning.files import write_file
from vlad_lightning.models.fsdp import is_sharded
from vlad_lightning.types import Batch, GeneratedImages, Layout


class SampleGrid(Callback):
    """Grids of samples for the first validation prompts; in a test, of the first generated images.

    The module's ``draw(prompts, keys)`` returns :class:`GeneratedImages` (stage 2) or layouts (stage 1).

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
        self._tested: tuple[list[GeneratedImages], list[GeneratedImages]] = ([], [])

    @torch.no_grad()
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Generate and log samples for the prompts of the first batch."""
        if batch_idx > 0 or trainer.sanity_checking or not (trainer.is_global_zero or is_sharded(pl_module)):
            return
        prompts = batch.prompts[: self.samples]
        with trainer.precision_plugin.forward_context():
            drawn: GeneratedImages | tuple[Layout, ...] = cast(Any, pl_module).draw(prompts, batch.keys[: self.samples])
        if not trainer.is_global_zero:  # it only took part in gathering the weights
            return
        captions = [words_of(prompt, layout) for prompt, layout in zip(prompts, batch.layouts, strict=False)]
        layouts = drawn.layouts if isinstance(drawn, GeneratedImages) else drawn
        results = {"samples/layouts": layout_grid(layouts, captions, self.columns)}
        if isinstance(drawn, GeneratedImages):
            results["samples/images"] = sample_grid(drawn.images, captions, self.columns)
        self._log(trainer, results)

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
                captions = [words_of(*row) for p in tested for row in zip(p.prompts, p.layouts, strict=True)]
                figure = sample_grid(images, captions, self.columns)
                write_file(Path(out), figure.savefig)
            tested.clear()

    def _log(self, trainer: Trainer, results: dict[str, Figure]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                try:
                    for name, figure in results.items():
                        logger.experiment.add_figure(name, figure, trainer.global_step)
                except OSError as error:  # a missing picture must not stop the training
                    rank_zero_warn(f"the pictures of step {trainer.global_step} could not be logged: {error}")


def words_of(prompt: str, layout: Layout) -> str:
    """Return the caption under a picture: its words, or the start of the prompt if it has none."""
    return " ".join(layout.words) or prompt[:24]
