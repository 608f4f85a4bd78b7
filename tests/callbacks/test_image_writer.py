from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from vlad_lightning.callbacks.image_writer import ImageWriter
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.types import GeneratedImages, Layout, PromptBatch

PROMPTS = ('the text "HÉLLO" and "b"', "a blue square", "a red circle")
LAYOUT = Layout(("HÉLLO", "b"), torch.tensor([[0.5, 0.25, 0.5, 0.25, 0.0], [0.5, 0.75, 0.25, 0.25, 0.0]]))


def pixels(seed: int) -> np.ndarray:
    """Make (16, 16, 3) uint8 pixels; the first picture has every value."""
    if seed == 0:
        return np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


class ImageGenerator(LightningModule):
    def predict_step(self, batch: PromptBatch, batch_idx: int) -> GeneratedImages:
        numbers = [PROMPTS.index(p) for p in batch.prompts]
        images = torch.stack([torch.from_numpy(pixels(n)).permute(2, 0, 1).float() / 127.5 - 1 for n in numbers])
        layouts = tuple(LAYOUT if n == 0 else Layout.empty() for n in numbers)
        return GeneratedImages(images, layouts, torch.zeros_like(images), batch.prompts, batch.keys)


def predict(out: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[ImageWriter(str(out))])
    trainer.predict(
        ImageGenerator(), datamodule=PromptDataModule(list(PROMPTS), batch_size=2), return_predictions=False
    )


def test_each_prompt_gets_its_picture_and_its_layout(tmp_path: Path) -> None:
    predict(tmp_path / "new")
    written = sorted(p.name for p in (tmp_path / "new").iterdir())
    assert written == [f"prompt_0000{i}.{kind}" for i in range(3) for kind in ("json", "png")]
    assert json.loads((tmp_path / "new" / "prompt_00000.json").read_text(encoding="utf-8")) == {
        "prompt": PROMPTS[0],
        "size": 16,
        "words": [
            {"text": "HÉLLO", "quad": [[4, 2], [12, 2], [12, 6], [4, 6]]},
            {"text": "b", "quad": [[6, 10], [10, 10], [10, 14], [6, 14]]},
        ],
    }
    assert json.loads((tmp_path / "new" / "prompt_00001.json").read_text())["words"] == []


def test_the_pixels_equal_the_generated_image_and_are_not_darker(tmp_path: Path) -> None:
    predict(tmp_path)
    for number in range(3):
        with Image.open(tmp_path / f"prompt_0000{number}.png") as image:
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), pixels(number))
