"""A module that draws grey images, with its batches, and the pictures that a TensorBoard log holds."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch.utils.data import DataLoader

from vlad_lightning.types import Batch, GeneratedImages, Layout

SIZE = 4


def batch(first: int, size: int = 3) -> Batch:
    return Batch(
        keys=tuple(f"{first + i:05d}" for i in range(size)),
        images=torch.zeros(size, 3, SIZE, SIZE),
        prompts=tuple(f"prompt {first + i}" for i in range(size)),
        layouts=tuple(Layout((f"W{first + i}",), torch.full((1, 5), 0.3)) for i in range(size)),
        glyphs=torch.zeros(size, 1, SIZE, SIZE, dtype=torch.uint8),
        word_boxes=torch.zeros(size, 1, 5),
        word_mask=torch.ones(size, 1, dtype=torch.bool),
        object_boxes=torch.zeros(size, 1, 5),
        object_mask=torch.zeros(size, 1, dtype=torch.bool),
        object_counts=torch.ones(size, 1, dtype=torch.int64),
        scene_known=torch.zeros(size, dtype=torch.bool),
    )


class Drawer(LightningModule):
    """Generates grey images and records the requests."""

    def __init__(self, generates: bool = True) -> None:
        super().__init__()
        self.generates = generates
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def draw(self, prompts: tuple[str, ...], keys: tuple[str, ...] = ()) -> GeneratedImages | tuple[Layout, ...]:
        self.asked.append((tuple(prompts), tuple(keys)))
        assert not torch.is_grad_enabled()
        layouts = tuple(Layout.empty() for _ in prompts)
        images = torch.zeros(len(prompts), 3, SIZE, SIZE)
        return GeneratedImages(images, layouts, images, tuple(prompts), tuple(keys)) if self.generates else layouts

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.weight * 1

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any] | None:
        drawn = self.draw(batch.prompts, batch.keys)
        return {"generated": drawn} if self.generates else None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def batches() -> DataLoader:
    return DataLoader([batch(0), batch(3)], batch_size=None)  # type: ignore[arg-type]


def logged(folder: str) -> dict[str, list[int]]:
    events = EventAccumulator(folder, size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
