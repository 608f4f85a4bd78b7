"""Write what ``predict`` paints: a PNG and the layout as JSON for each prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torchvision.utils import save_image

from vlad_lightning.files import write_file
from vlad_lightning.types import Painting


class ImageWriter(BasePredictionWriter):
    """Writes ``{key}.png`` and ``{key}.json`` (prompt, words, quads in pixels) as batches come.

    Args:
        out: the folder.
    """

    def __init__(self, out: str) -> None:
        super().__init__(write_interval="batch")
        self.out = out

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Painting,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch."""
        size = prediction.images.shape[-1]
        rows = zip(prediction.keys, prediction.prompts, prediction.images.cpu(), prediction.layouts, strict=True)
        for key, prompt, image, layout in rows:
            quads = (layout.quads() * size).round(decimals=2).tolist()
            words = [{"text": word, "quad": quad} for word, quad in zip(layout.words, quads, strict=True)]
            text = json.dumps({"prompt": prompt, "size": size, "words": words}, ensure_ascii=False, indent=1)
            picture = partial(save_image, image, normalize=True, value_range=(-1, 1))  # rounds; to_pil_image cuts off
            write_file(Path(self.out, f"{key}.png"), picture)
            write_file(Path(self.out, f"{key}.json"), partial(Path.write_text, data=text, encoding="utf-8"))
