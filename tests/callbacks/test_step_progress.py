from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from poisoned import Regression, loader
from terminals import drawn_in_terminal

from vlad_lightning.callbacks import StepProgressBar


class Seen(Callback):
    """Records the bar after each batch: its label, its position and its total."""

    def __init__(self, bar: StepProgressBar) -> None:
        self.bar = bar
        self.bars: list[tuple[str, float, float | None]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        task = self.bar.train_progress_bar
        self.bars.append((task.description, task.completed, task.total))


def fit(steps: int, *callbacks: Callback, ckpt_path: Path | None = None, **changes: Any) -> tuple[Seen, Trainer]:
    seen = Seen(StepProgressBar())
    changes = {"enable_progress_bar": True, "max_epochs": -1} | changes
    trainer = tiny.trainer(steps, callbacks=[seen.bar, seen, *callbacks], **changes)
    trainer.fit(Regression(), loader(), ckpt_path=ckpt_path, weights_only=True)
    return seen, trainer


def test_one_bar_over_the_steps_of_all_epochs() -> None:
    steps = 2 * len(loader()) + 1
    seen, _ = fit(steps)
    assert seen.bars == [("step", step + 1, steps) for step in range(steps)]


def test_accumulated_batches_are_one_step() -> None:
    seen, _ = fit(2, accumulate_grad_batches=2)
    assert [completed for _, completed, _ in seen.bars] == [0, 1, 1, 2]


def test_a_resumed_fit_continues_its_bar(tmp_path: Path) -> None:
    fit(3, ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=3), enable_checkpointing=True)
    seen, _ = fit(5, ckpt_path=tmp_path / "last.ckpt")
    assert seen.bars == [("step", 4, 5), ("step", 5, 5)]


def test_without_max_steps_it_counts_the_batches_of_an_epoch() -> None:
    seen, _ = fit(-1, max_epochs=1)
    assert [(done, total) for _, done, total in seen.bars] == [(i + 1, len(loader())) for i in range(len(loader()))]
    assert seen.bars[0][0].startswith("epoch 0")


def test_the_bar_shows_the_loss_alone(tmp_path: Path) -> None:
    seen, trainer = fit(1, logger=True, default_root_dir=tmp_path)
    assert trainer.logger is not None
    assert list(seen.bar.get_metrics(trainer, trainer.lightning_module)) == ["loss"]


class Validated(Regression):
    """A regression with a validation of many long results."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({f"val/a_long_name_{i}": 0.25 for i in range(4)}, prog_bar=True, batch_size=1)


@pytest.mark.parametrize(("settings", "name"), [({"max_steps": 40}, "step"), ({"max_time": "00:00:00:01"}, "epoch 0")])
def test_in_a_terminal_of_80_columns_the_bar_keeps_to_one_line(settings: dict[str, Any], name: str) -> None:
    def train() -> None:
        limits: dict[str, Any] = {"limit_val_batches": 1, "num_sanity_val_steps": 1, "max_epochs": -1, "steps": -1}
        trainer = tiny.trainer(callbacks=[StepProgressBar()], enable_progress_bar=True, **limits | settings)
        trainer.fit(Validated(), loader(), loader())

    shown = drawn_in_terminal(train)
    bars = [line for line in shown if line.startswith(name)]
    assert "40/40" in bars[-1] or "max_steps" not in settings
    assert any("loss: " in line for line in bars)
    assert any("val/a_long_name_3 0.25" in line for line in shown)
    assert not any("Epoch" in line or "/-" in line or "0.00it/s" in line for line in shown)
    assert max(map(len, bars)) <= 80


@pytest.mark.parametrize("refresh_rate", [0, 1])
def test_a_disabled_bar_does_not_crash(refresh_rate: int) -> None:
    bar = StepProgressBar(refresh_rate=refresh_rate)
    trainer = tiny.trainer(2, callbacks=[bar], enable_progress_bar=True)
    trainer.fit(Regression(), loader())
    assert bar.is_enabled is bool(refresh_rate)
