from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from vlad_lightning.callbacks import TestImages
from vlad_lightning.types import GeneratedImages, Layout


class Painting(LightningModule):
    """Two data loaders, as a test has: true posters, and prompts alone. Image n is as bright as n / 4."""

    def test_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        numbers = batch.tolist()
        images = torch.stack([torch.full((3, 4, 6), n / 2 - 1) for n in numbers])
        keys = tuple(f"{dataloader_idx}_{n}" for n in numbers)
        prompts = tuple(f"a poster that says '{n}'" for n in numbers)
        empty = (Layout.empty(),) * len(numbers)
        return {"generated": GeneratedImages(images, empty, images, prompts, keys)}


def kept(out: Path, samples: int) -> list[str]:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[TestImages(str(out), samples)],
    )
    loaders = [DataLoader(range(4), batch_size=2), DataLoader(range(4), batch_size=2)]  # type: ignore[arg-type]
    for _ in range(2):  # each test starts to count anew
        trainer.test(Painting(), loaders, verbose=False)
    return sorted(path.name for path in out.iterdir())


def test_the_first_images_of_the_true_posters_are_kept_with_their_prompts(tmp_path: Path) -> None:
    out = tmp_path / "kept" / "images"
    assert kept(out, 3) == ["0_0.png", "0_1.png", "0_2.png"]
    with Image.open(out / "0_1.png") as image:
        assert image.size == (6, 4)
        assert image.getpixel((0, 0)) == (64, 64, 64)
        assert image.info["prompt"] == "a poster that says '1'"


def test_fewer_images_than_asked_for_are_all_kept(tmp_path: Path) -> None:
    assert len(kept(tmp_path / "out", 8)) == 4


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="samples is 0; it must be at least 1"):
        TestImages("out", 0)
