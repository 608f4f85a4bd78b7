from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from poisoned import NAN, Regression, loader

from vlad_lightning.health import FitSummary, RollBack, StepGuard, ThroughputLogger


def fit(folder: Path, steps: int, *others: Callback, poison: dict[int, float] | None = None, **fit: Any) -> Trainer:
    saver = ModelCheckpoint(folder, save_last=True, save_top_k=0, enable_version_counter=False)
    callbacks = [*others, FitSummary(), saver]
    trainer = tiny.trainer(steps, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(Regression(), loader(64, poison), weights_only=True, **fit)
    return trainer


def health() -> list[Callback]:
    return [StepGuard(), RollBack(), ThroughputLogger()]


def test_a_finished_fit_is_summarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="is skipped"):
        fit(tmp_path, 8, *health(), poison={3: NAN})
    summary = json.loads((tmp_path / "summary.json").read_text())
    counted = {k: summary[k] for k in ("outcome", "steps", "samples", "skipped_steps", "loss_spikes", "rollbacks")}
    assert counted == {
        "outcome": "finished",
        "steps": 8,
        "samples": 16,
        "skipped_steps": 1,
        "loss_spikes": 0,
        "rollbacks": 0,
    }
    assert summary["last_checkpoint"] == str(tmp_path / "last.ckpt")
    assert summary["seconds"] >= 0  # in tenths
    assert summary["images_per_second"] > 0
    assert summary["last_loss"] > 0
    (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("fit: outcome finished"))
    assert "steps 8, samples 16" in said
    assert str(tmp_path / "last.ckpt") in said


def test_counts_continue_after_a_resume(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is skipped"):
        fit(tmp_path, 4, *health(), poison={3: NAN})
    fit(tmp_path, 6, *health(), ckpt_path=str(tmp_path / "last.ckpt"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["samples"], summary["skipped_steps"]) == (6, 12, 1)


class Stops(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 3


def test_a_stopped_fit_is_summarised(tmp_path: Path) -> None:
    fit(tmp_path, 8, *health(), Stops())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["outcome"], summary["steps"]) == ("stopped", 3)


class Breaks(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 3:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()])
def test_an_interrupted_fit_is_summarised(
    error: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((RuntimeError, SystemExit)):
        fit(tmp_path, 8, *health(), Breaks(error))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["outcome"], summary["steps"]) == (type(error).__name__, 3)
    assert summary["last_checkpoint"] is None
    assert "last_checkpoint unknown" in capsys.readouterr().out


@pytest.mark.parametrize("error", [None, SystemExit(75)])
def test_a_full_disk_does_not_hide_the_error_that_ended_the_fit(
    error: BaseException | None, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [Breaks(error)] if error else []
    trainer = tiny.trainer(5, callbacks=[FitSummary(), *others], default_root_dir=small_disk)
    with suppress(OSError), (small_disk / "others").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with (
        pytest.warns(UserWarning, match=r"summary\.json could not be written: .*No space left"),
        pytest.raises(SystemExit) if error else nullcontext() as ended,
    ):
        trainer.fit(Regression(), loader())
    assert ended is None or ended.value.code == 75
    assert f"fit: outcome {'SystemExit' if error else 'finished'}" in capsys.readouterr().out
    assert [path.name for path in small_disk.iterdir()] == ["others"]


def test_without_other_callbacks_the_summary_is_shorter(tmp_path: Path) -> None:
    fit(tmp_path, 2)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 2
    assert summary["samples"] is None


def test_a_disabled_summary_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.trainer(1, callbacks=[FitSummary(enabled=False)], default_root_dir=tmp_path).fit(Regression(), loader())
    assert not (tmp_path / "summary.json").exists()
    assert "fit:" not in capsys.readouterr().out
