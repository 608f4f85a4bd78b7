from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch.callbacks import ModelCheckpoint
from poisoned import Regression, loader

from vlad_lightning.callbacks import ProgressLines
from vlad_lightning.callbacks.progress_lines import loss_of


class Model(Regression):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val/loss", 0.5, prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


def trainer(steps: int, seconds: float = 0, **changes: Any) -> Any:
    return tiny.trainer(steps, callbacks=[ProgressLines(seconds), *changes.pop("callbacks", [])], **changes)


SHOWN = {"enable_progress_bar": True}


def test_a_line_says_step_of_how_many_loss_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(3, **SHOWN).fit(Model(), loader())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert re.fullmatch(r"step 1/3, loss [\d.]+", lines[0])
    assert re.fullmatch(r"step 2/3, loss [\d.]+, [\d.e+]+ (steps/s|s/step), \d+:\d\d:\d\d left", lines[1])
    assert re.fullmatch(r"step 3/3, loss [\d.]+, [\d.e+]+ (steps/s|s/step)", lines[2])


def test_between_the_first_step_and_the_last_only_every_so_many_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(6, seconds=3600, **SHOWN).fit(Model(), loader())
    lines = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert lines == ["step 1/6", "step 6/6"]


def test_accumulated_batches_are_one_step_and_epochs_are_counted_in_steps(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(-1, max_epochs=1, accumulate_grad_batches=16, **SHOWN).fit(Model(), loader())
    lines = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert lines == ["step 1/2", "step 2/2"]


def test_a_resumed_fit_goes_on_counting(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    saves = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=3)
    trainer(3, callbacks=[saves], enable_checkpointing=True, **SHOWN).fit(Model(), loader())
    capsys.readouterr()
    trainer(5, **SHOWN).fit(Model(), loader(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    lines = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert lines == ["step 4/5", "step 5/5"]


def test_a_validation_ends_with_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"limit_val_batches": 2, "val_check_interval": 2, "num_sanity_val_steps": 1}
    trainer(2, **SHOWN, **settings).fit(Model(), loader(), loader())
    assert [line for line in capsys.readouterr().out.splitlines() if "val" in line] == ["step 2: val/loss 0.5"]


@pytest.mark.parametrize(
    ("command", "name"), [("test", "Testing"), ("predict", "Predicting"), ("validate", "Validation")]
)
def test_other_commands_count_the_batches_of_all_loaders(
    command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = getattr(trainer(-1, **SHOWN, limit_val_batches=1.0), command)
    run(Model(), [loader(4), loader(2)], **({} if command == "predict" else {"verbose": False}))
    lines = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith(name)]
    assert lines == [f"{name}: batch {i}/3" for i in (1, 2, 3)]


def test_other_ranks_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines(0)
    lines.disable()
    tiny.trainer(2, callbacks=[lines], **SHOWN).fit(Model(), loader())
    assert capsys.readouterr().out == ""
    lines.enable()
    tiny.trainer(2, callbacks=[lines], **SHOWN).fit(Model(), loader())
    assert "step 2/2" in capsys.readouterr().out


def test_a_step_without_a_loss_and_a_negative_interval() -> None:
    assert loss_of(None) is None
    with pytest.raises(ValueError, match="seconds is -1; must be at least 0"):
        ProgressLines(-1)


def test_slow_batches_are_told_in_seconds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=2.0)
    monkeypatch.setattr("vlad_lightning.callbacks.progress_lines.time.monotonic", lambda: next(clock))
    trainer(-1, **SHOWN).test(Model(), loader(4), verbose=False)
    assert re.search(r"Testing: batch 2/2, \d+ s/batch$", capsys.readouterr().out, re.MULTILINE)
