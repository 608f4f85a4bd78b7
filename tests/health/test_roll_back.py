from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from poisoned import NAN, Regression, loader, weights

from vlad_lightning.health import EMA, RollBack, StepGuard, TrainingDivergedError
from vlad_lightning.health.roll_back import is_proven, read_saved

pytestmark = pytest.mark.filterwarnings("ignore:step .* is skipped", "ignore:You're resuming")


class Watch(Callback):
    """Records weights, moments, EMA and learning rate after each batch; the last of the callbacks."""

    def __init__(self) -> None:
        self.states: dict[int, dict[str, Any]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        optimizer, ema = trainer.optimizers[0], next(c for c in trainer.callbacks if isinstance(c, EMA))
        self.states[trainer.global_step] = {
            "weights": weights(pl_module),
            "moments": [v.clone() for s in optimizer.state.values() for v in s.values()],
            "average": {k: v.clone() for k, v in ema._other.items()},
            "rate": optimizer.param_groups[0]["lr"],
            "updates": ema.updates,
        }


def saver(folder: Path, every: int = 4, **changes: Any) -> ModelCheckpoint:
    named: dict[str, Any] = {"filename": "{step}", "save_top_k": -1, "every_n_train_steps": every}
    return ModelCheckpoint(folder, **named | changes)


def fit(folder: Path, steps: int, poison: dict[int, float], back: RollBack, **changes: Any) -> tuple[Any, Any, Any]:
    module, watch = changes.pop("module", None) or Regression(), Watch()
    keeps = changes.pop("saver", None) or saver(folder)
    callbacks = [EMA(0.5), StepGuard(), back, watch, *([keeps] if keeps != "none" else [])]
    resume = changes.pop("ckpt_path", None)
    trainer = tiny.trainer(steps, callbacks=callbacks, enable_checkpointing=keeps != "none", **changes)
    trainer.fit(module, loader(200, poison), ckpt_path=resume, weights_only=True)
    return module, watch, trainer


def rows(*batches: int) -> dict[int, float]:
    """Put NaN in each of these batches of two rows; they are counted from 1, like steps."""
    return {2 * (batch - 1): NAN for batch in batches}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    tensors = [
        *zip(first["weights"].values(), second["weights"].values(), strict=True),
        *zip(first["moments"], second["moments"], strict=True),
        *zip(first["average"].values(), second["average"].values(), strict=True),
    ]
    plain = first["rate"] == second["rate"] and first["updates"] == second["updates"]
    return plain and all(torch.equal(a, b) for a, b in tensors)


def test_everything_but_step_count_and_data_rolls_back(tmp_path: Path) -> None:
    back = RollBack(after=3, proof=0)
    with pytest.warns(UserWarning, match=r"3 bad steps in a row up to step 13 .*back to .*step=8.ckpt of step 8"):
        module, watch, trainer = fit(tmp_path, 16, rows(11, 12, 13), back)
    assert back.rollbacks == 1
    assert same(watch.states[13], watch.states[8])
    assert not same(watch.states[10], watch.states[8])
    assert trainer.global_step == 16
    expected = list(loader(200, rows(11, 12, 13)))[:16]
    assert all(torch.equal(a, b) for a, b in zip(module.seen[:10], expected[:10], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(module.seen[13:], expected[13:], strict=True))  # not rolled back


def test_fewer_bad_steps_than_allowed_do_not_roll_back(tmp_path: Path) -> None:
    back = RollBack(after=3, proof=0)
    fit(tmp_path, 12, rows(5, 6, 8, 9), back)
    assert back.rollbacks == 0


def test_none_never_rolls_back(tmp_path: Path) -> None:
    back = RollBack(after=None)
    fit(tmp_path, 12, rows(*range(5, 12)), back)
    assert back.rollbacks == 0


def test_a_proven_checkpoint_is_preferred_to_a_newer_one(tmp_path: Path) -> None:
    back = RollBack(after=2, proof=5)
    with pytest.warns(UserWarning, match="of step 4;"):  # 8 was followed by three good steps only
        _, watch, _ = fit(tmp_path, 14, rows(12, 13), back)
    assert same(watch.states[13], watch.states[4])


def test_a_single_overwritten_file_is_used_unproven(tmp_path: Path) -> None:
    back = RollBack(after=2, proof=50)
    last = saver(tmp_path, save_last=True, save_top_k=0, filename=None)
    with pytest.warns(UserWarning, match=r"last.ckpt of step 8;"):
        fit(tmp_path, 14, rows(11, 12), back, saver=last)
    assert back.rollbacks == 1


def test_checkpoints_saved_amid_bad_steps_and_damaged_ones_are_skipped(tmp_path: Path) -> None:
    class Damage(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            if trainer.global_step == 9:
                (tmp_path / "step=8.ckpt").write_bytes(b"PK\x03\x04 cut off")

    back, module = RollBack(after=3, proof=0), Regression()
    trainer = tiny.trainer(
        14, callbacks=[EMA(0.5), StepGuard(), back, Damage(), saver(tmp_path)], enable_checkpointing=True
    )
    with pytest.warns(UserWarning, match="back to") as caught:
        trainer.fit(module, loader(200, rows(11, 12, 13)))
    said = [str(w.message) for w in caught]
    assert any("step=8.ckpt is passed over" in text for text in said)
    assert any("back to" in text and "of step 4;" in text for text in said)  # 12 was saved amid the bad steps
    assert read_saved(tmp_path / "step=12.ckpt").amid_bad  # type: ignore[union-attr]


def test_without_a_checkpoint_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"no good checkpoint.*every_n_steps"):
        fit(tmp_path, 12, rows(2, 3, 4), RollBack())


def test_a_checkpoint_of_another_fit_is_not_used(tmp_path: Path) -> None:
    fit(tmp_path, 4, {}, RollBack())
    (tmp_path / "step=4.ckpt").rename(tmp_path / "other.ckpt")
    with pytest.raises(TrainingDivergedError, match="no good checkpoint"):
        fit(tmp_path, 12, rows(2, 3, 4), RollBack())


@pytest.mark.filterwarnings("ignore:.*back to")
def test_the_fit_stops_if_roll_backs_do_not_help(tmp_path: Path) -> None:
    back = RollBack(after=2, attempts=2, proof=0)
    with pytest.raises(TrainingDivergedError, match=r"after 2 roll-backs to .*step=4.ckpt of step 4"):
        fit(tmp_path, 40, rows(*range(6, 30)), back, saver=saver(tmp_path, every=4))
    assert back.rollbacks == 2


@pytest.mark.filterwarnings("ignore:.*back to")
def test_progress_between_roll_backs_resets_the_count(tmp_path: Path) -> None:
    back = RollBack(after=2, attempts=1, proof=0)
    _, _, trainer = fit(tmp_path, 20, rows(6, 7, 14, 15), back)
    assert (back.rollbacks, trainer.global_step) == (2, 20)


@pytest.mark.filterwarnings("ignore:.*back to")
def test_a_resumed_fit_can_roll_back_to_its_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path, 4, {}, RollBack())
    back = RollBack(after=2, proof=0)
    _, watch, _ = fit(tmp_path, 9, rows(2, 3), back, ckpt_path=str(tmp_path / "step=4.ckpt"))
    assert back.rollbacks == 1
    first = min(watch.states)
    assert any(same(watch.states[first], state) for step, state in watch.states.items() if step > first)


@pytest.mark.filterwarnings("ignore:.*back to")
def test_after_a_roll_back_bad_steps_are_counted_again(tmp_path: Path) -> None:
    back = RollBack(after=3, attempts=9, proof=0)
    fit(tmp_path, 18, rows(11, 12, 13, 14, 15), back)  # the third bad step rolls back; two more are too few
    assert back.rollbacks == 1


def test_a_weights_only_checkpoint_is_not_used(tmp_path: Path) -> None:
    weights_only = saver(tmp_path, save_weights_only=True)
    with pytest.raises(TrainingDivergedError, match="no good checkpoint"):
        fit(tmp_path, 12, rows(6, 7, 8), RollBack(), saver=weights_only)


@pytest.mark.parametrize(
    ("step", "bad", "now", "proven"),
    [
        (10, [], 110, True),
        (10, [], 109, False),
        (10, [50], 300, False),
        (10, [10, 111], 300, True),
        (10, [110], 300, False),
    ],
)
def test_a_checkpoint_is_proven_by_consecutive_good_steps(step: int, bad: list[int], now: int, proven: bool) -> None:
    assert is_proven(step, bad, now, proof=100) is proven


@pytest.mark.parametrize("change", [{"after": 0}, {"attempts": 0}, {"proof": -1}])
def test_bad_settings_are_named(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
        RollBack(**change)
