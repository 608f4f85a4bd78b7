from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch.utils.data import DataLoader

from vlad_lightning.callbacks.sample_grid import SampleGrid, words_of
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


def logged(folder: str) -> dict[str, list[int]]:
    events = EventAccumulator(folder, size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_each_validation_of_a_fit_logs_pictures_of_the_first_prompts(tmp_path: Path) -> None:
    module, logger = Drawer(), TensorBoardLogger(tmp_path)
    trainer(tmp_path, SampleGrid(samples=2), logger=logger, max_epochs=2).fit(module, batches(), batches())
    assert logged(logger.log_dir) == {"samples/images": [2, 4], "samples/layouts": [2, 4]}  # none of the sanity check
    assert module.asked == [(("prompt 0", "prompt 1"), ("00000", "00001"))] * 2


def test_a_module_that_draws_layouts_logs_layouts(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer(tmp_path, SampleGrid(), logger=logger).validate(Drawer(generates=False), batches(), verbose=False)
    assert list(logged(logger.log_dir)) == ["samples/layouts"]


def test_a_logger_without_pictures_is_skipped(tmp_path: Path) -> None:
    module = Drawer()
    trainer(tmp_path, SampleGrid(), logger=CSVLogger(tmp_path)).validate(module, batches(), verbose=False)
    assert len(module.asked) == 1


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


def test_a_caption_is_the_words_to_draw_or_the_start_of_the_prompt() -> None:
    two = Layout(("GO", "on"), torch.zeros(2, 5))
    assert words_of("a prompt", two) == "GO on"
    assert words_of("a red circle left of a blue square", Layout.empty()) == "a red circle left of a b"


@pytest.mark.parametrize(("samples", "columns"), [(0, 8), (4, 0)])
def test_zero_pictures_are_refused(samples: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"samples is {samples} and columns {columns}; both must be at least 1"):
        SampleGrid(samples, columns)
