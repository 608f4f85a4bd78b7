"""Callback that writes what ``predict`` generates: a PNG and the layout as JSON for each prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torchvision.transforms.functional import to_pil_image

from vlad_lightning.files import write_file, write_text
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.types import GeneratedImages, Layout


class ImageWriter(BasePredictionWriter):
    """Writer of ``{key}.png`` and ``{key}.json`` (prompt, words and objects, quads in pixels, fonts) after each batch.

    The JSON is a layout file. An inpainted picture keeps its size.

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
        prediction: GeneratedImages,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch."""
        if getattr(batch, "spare", False):  # another device writes it
            return
        pictures = prediction.pictures or prediction.images.cpu()
        for key, prompt, image, layout in zip(
            prediction.keys, prediction.prompts, pictures, prediction.layouts, strict=True
        ):
            height, width = image.shape[-2:]
            frame = {"size": width} if width == height else {"width": width, "height": height}
            content: dict[str, Any] = {"prompt": prompt, **frame, "words": _words(layout, width, height)}
            if layout.objects:
                content["objects"] = _objects(layout, width, height)
            text = json.dumps(content, ensure_ascii=False, indent=1)
            write_file(Path(self.out, f"{key}.png"), to_pil_image(to_bytes(image)).save)
            write_text(Path(self.out, f"{key}.json"), text)


def _words(layout: Layout, width: int, height: int) -> list[dict[str, Any]]:
    quads = _pixels(layout, width, height)
    words: list[dict[str, Any]] = [{"text": w, "quad": q} for w, q in zip(layout.words, quads, strict=True)]
    for word, font in zip(words, layout.fonts, strict=False):
        if font is not None:
            word["font"] = str(Path(font).resolve())
    return words


def _objects(layout: Layout, width: int, height: int) -> list[dict[str, Any]]:
    quads = _pixels(Layout(layout.objects, layout.object_boxes), width, height)
    return [{"phrase": p, "quad": q} for p, q in zip(layout.objects, quads, strict=True)]


def _pixels(layout: Layout, width: int, height: int) -> list[Any]:
    quads: list[Any] = (layout.quads() * torch.tensor([width, height])).round(decimals=2).tolist()
    return quads
