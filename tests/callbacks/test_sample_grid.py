from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drawer import Drawer, batches, logged
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image

from vlad_lightning.callbacks.grid import sample_grid
from vlad_lightning.callbacks.sample_grid import SampleGrid


def trainer(root: Path, grid: SampleGrid, **settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=root,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[grid],
        **settings,
    )


def test_each_validation_of_a_fit_shows_samples_of_the_first_prompts(tmp_path: Path) -> None:
    module, logger = Drawer(), TensorBoardLogger(tmp_path)
    trainer(tmp_path, SampleGrid(samples=2), logger=logger, max_epochs=2).fit(module, batches(), batches())
    assert logged(logger.log_dir) == {"samples/images": [0, 2, 4], "samples/layouts": [0, 2, 4]}  # 0: the sanity check
    assert module.asked == [(("prompt 0", "prompt 1"), ("00000", "00001"))] * 3
    files = sorted(path.name for path in Path(logger.log_dir, "samples").iterdir())
    assert files == sorted(f"validation-00000000{s}{kind}.png" for s in (0, 2, 4) for kind in ("", "-layouts"))


def test_a_module_that_draws_layouts_shows_layouts(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer(tmp_path, SampleGrid(), logger=logger).validate(Drawer(generates=False), batches(), verbose=False)
    assert list(logged(logger.log_dir)) == ["samples/layouts"]
    assert not list(tmp_path.rglob("*.png"))  # only a fit writes files


@pytest.mark.parametrize(("samples", "columns", "across", "down"), [(4, 2, 2, 2), (16, 8, 6, 1), (1, 8, 1, 1)])
def test_a_test_writes_its_first_generated_images(
    tmp_path: Path, samples: int, columns: int, across: int, down: int
) -> None:
    out = tmp_path / "new" / "grid.png"
    grid = SampleGrid(samples, columns, str(out))
    trainer(tmp_path, grid, logger=False).test(Drawer(), batches(), verbose=False)
    assert list(out.parent.iterdir()) == [out]
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.size == (168 * across, 198 * down)  # 1.4 by 1.65 inches at 120 dots per inch


def test_a_test_without_a_folder_or_generated_images_writes_nothing(tmp_path: Path) -> None:
    trainer(tmp_path, SampleGrid(), logger=False).test(Drawer(), batches(), verbose=False)
    grid = SampleGrid(out=str(tmp_path / "grid.png"))
    trainer(tmp_path, grid, logger=False).test(Drawer(generates=False), batches(), verbose=False)
    assert not list(tmp_path.iterdir())


def test_whole_prompts_stand_under_the_images_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def grid(images: torch.Tensor, captions: list[str], columns: int) -> Figure:
        told.extend(captions)
        return sample_grid(images, captions, columns)

    monkeypatch.setattr("vlad_lightning.callbacks.sample_grid.sample_grid", grid)
    trainer(tmp_path, SampleGrid(3, out=str(tmp_path / "grid.png")), logger=False).test(
        Drawer(), batches(), verbose=False
    )
    assert told == ["prompt 0", "prompt 1", "prompt 2"]


@pytest.mark.parametrize(("samples", "columns"), [(0, 8), (4, 0)])
def test_zero_pictures_are_refused(samples: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"samples is {samples} and columns {columns}; both must be at least 1"):
        SampleGrid(samples, columns)
