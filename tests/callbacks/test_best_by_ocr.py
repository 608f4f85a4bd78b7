from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drawer import Drawer, batches
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from vlad_lightning.callbacks import BestByOCR
from vlad_lightning.metrics.ocr import OCRMetrics

PROMPTS = ["a sign 'HELLO'", "'OPEN' on red"]
LEGIBLE = {3: 1, 4: 2, 6: 2}  # how many of the words can be read after so many steps


class ReadsSome:
    """An engine that reads as many of the words as the images' colour says."""

    name = "reads some"

    def read(self, images: Tensor) -> list[list[str]]:
        count = round(float(images[0, 0, 0, 0]))
        return [[word] if place < count else [] for place, word in enumerate(("hello", "open"))]


class Improving(Drawer):
    """Images whose words become legible."""

    def draw(self, prompts: tuple[str, ...], keys: tuple[str, ...] = ()) -> Any:
        drawn = super().draw(prompts, keys)
        drawn.images.fill_(LEGIBLE.get(self.global_step, 0))
        return drawn


def fit(folder: Path, best: BestByOCR, steps: int, ckpt_path: Path | None = None) -> None:
    saves = ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)
    Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        callbacks=[best, saves],
    ).fit(Improving(), batches(), ckpt_path=ckpt_path, weights_only=True)


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_the_checkpoint_with_the_highest_figure_is_kept(tmp_path: Path) -> None:
    best = BestByOCR(OCRMetrics(ReadsSome()), PROMPTS, every=1)
    fit(tmp_path, best, 5)
    assert (best.best, best.best_step) == (1.0, 4)
    assert step_of(tmp_path / "best.ckpt") == 4
    resumed = BestByOCR(OCRMetrics(ReadsSome()), PROMPTS, every=1)
    fit(tmp_path, resumed, 7, ckpt_path=tmp_path / "last.ckpt")
    assert step_of(tmp_path / "best.ckpt") == 4  # step 6 is no better
    assert resumed.best_step == 4


def test_it_measures_every_so_many_steps(tmp_path: Path) -> None:
    best = BestByOCR(OCRMetrics(ReadsSome()), PROMPTS, every=3)
    fit(tmp_path, best, 5)
    assert best.best_step == 3
    assert best.best == pytest.approx(2 / 3)  # of one word read of two: precision 1, recall 1 / 2


def test_unusable_settings_are_refused(tmp_path: Path) -> None:
    metric = OCRMetrics(ReadsSome())
    with pytest.raises(ValueError, match="prompts has no words in quotes"):
        BestByOCR(metric, ["a red circle"])
    with pytest.raises(ValueError, match="every is 0"):
        BestByOCR(metric, PROMPTS, every=0)
    with pytest.raises(FileNotFoundError, match=r"prompts none\.txt"):
        BestByOCR(metric, "none.txt")
    with pytest.raises(ValueError, match="figure is 'none'; allowed are"):
        fit(tmp_path, BestByOCR(metric, PROMPTS, every=1, figure="none"), 1)
