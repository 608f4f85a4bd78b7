from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from poisoned import INF, NAN, Regression, loader, weights
from torch import Tensor

from vlad_lightning.health import EMA, SpikeRule, StepGuard
from vlad_lightning.health.step_guard import vitals_of


class Watch(Callback):
    """Records weights, moments, EMA and learning rate after each batch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.moments: list[list[Tensor]] = []
        self.averages: list[dict[str, Tensor]] = []
        self.rates: list[float] = []
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        optimizer = trainer.optimizers[0]
        self.weights.append(weights(pl_module))
        self.moments.append([v.clone() for s in optimizer.state.values() for v in s.values()])
        ema = next(c for c in trainer.callbacks if isinstance(c, EMA))
        self.averages.append({k: v.clone() for k, v in ema._other.items()})
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.steps.append(trainer.global_step)


def fit(steps: int, poison: dict[int, float], guard: StepGuard | None = None, **changes: Any) -> tuple[Any, Any, Any]:
    guard, watch, module = guard or StepGuard(), Watch(), Regression()
    size = changes.pop("size", 64)
    trainer = tiny.trainer(steps, callbacks=[EMA(0.5), guard, watch], gradient_clip_val=1.0, **changes)
    trainer.fit(module, loader(size, poison))
    return guard, watch, module


def same(first: Any, second: Any) -> bool:
    values = (list(side.values()) if isinstance(side, dict) else side for side in (first, second))
    return all(torch.equal(a, b) for a, b in zip(*values, strict=True))


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_batch_does_not_change_weights_moments_and_average(value: float) -> None:
    with pytest.warns(UserWarning, match="step 4 is skipped"):
        guard, watch, module = fit(8, {7: value})  # the second row of the fourth batch
    assert same(watch.weights[3], watch.weights[2])
    assert same(watch.moments[3], watch.moments[2])
    assert same(watch.averages[3], watch.averages[2])
    assert not same(watch.weights[4], watch.weights[3])
    assert not same(watch.averages[4], watch.averages[3])
    assert guard.skipped == 1
    assert guard.bad_in_a_row == 0
    assert guard.bad_steps == [4]
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert watch.steps == list(range(1, 9))
    assert watch.rates == pytest.approx([0.05 / (1 + step) for step in range(1, 9)])


def test_one_bad_batch_among_accumulated_ones_skips_their_step() -> None:
    with pytest.warns(UserWarning, match="step 2 is skipped"):
        guard, watch, _ = fit(4, {4: NAN}, accumulate_grad_batches=2)
    assert same(watch.weights[3], watch.weights[1])
    assert not same(watch.weights[5], watch.weights[3])
    assert guard.skipped == 1
    assert watch.averages[4].keys() == watch.averages[3].keys()
    assert same(watch.averages[4], watch.averages[3])  # in the middle of the next step


def test_without_bad_steps_the_guard_changes_nothing() -> None:
    plain = Regression()
    tiny.trainer(8, gradient_clip_val=1.0).fit(plain, loader())
    guard, watch, _ = fit(8, {})
    assert same(weights(plain), watch.weights[-1])
    assert guard.skipped == 0


def test_disabled_guard_takes_the_step() -> None:
    guard, _, module = fit(4, {2: NAN}, StepGuard(enabled=False))
    assert guard.skipped == 0
    assert not all(value.isfinite().all() for value in module.state_dict().values())


def test_the_norm_is_measured_before_clipping() -> None:
    guard, _, _ = fit(1, {})
    module = Regression()
    module.training_step(next(iter(loader())), 0).backward()
    whole = torch.cat([p.grad.flatten().double() for p in module.parameters() if p.grad is not None])
    assert guard.vitals.grad_norm == pytest.approx(float(whole.norm()), rel=1e-6)
    assert guard.vitals.grad_norm > 1


def test_the_loss_is_the_mean_over_accumulated_batches() -> None:
    guard, _, _ = fit(1, {}, accumulate_grad_batches=4)
    module = Regression()
    rows = torch.cat(list(loader())[:4])
    assert guard.vitals.loss == pytest.approx(float(module.training_step(rows, 0)), rel=1e-6)


def test_finite_loss_with_a_broken_gradient_is_not_finite() -> None:
    loss = torch.tensor(1.0)
    assert not vitals_of(loss, [torch.ones(3), torch.tensor([1.0, NAN])]).finite
    assert not vitals_of(loss, [torch.tensor([INF])]).finite
    assert vitals_of(loss, []) == (1.0, 0.0)
    assert vitals_of(loss, [torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.bfloat16)]) == (1.0, 5.0)


@pytest.mark.parametrize(("action", "skipped", "bad"), [("log", 0, []), ("skip", 1, []), ("roll_back", 1, [13])])
def test_a_spike_follows_its_rule(action: Any, skipped: int, bad: list[int]) -> None:
    rule = SpikeRule(window=8, deviations=20, action=action)
    with pytest.warns(UserWarning, match="step 13 is .*: spike of the loss"):
        guard, watch, _ = fit(14, {24: 1e4}, StepGuard(spikes=rule))
    assert guard.spikes_seen == 1
    assert guard.skipped == skipped
    assert guard.bad_steps == bad
    assert same(watch.weights[12], watch.weights[11]) == bool(skipped)


def test_counters_survive_a_resume(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    with pytest.warns(UserWarning, match="is skipped"):
        first, _, _ = fit_and_save(saver, 6, StepGuard(), {5: NAN})
    second, trainer, _ = fit_and_save(saver, 8, StepGuard(), {}, ckpt_path=str(tmp_path / "last.ckpt"))
    assert second.skipped == first.skipped == 1
    assert second.bad_steps == [3]
    assert list(second.window.losses)[:5] == list(first.window.losses)
    assert trainer.global_step == 8


def fit_and_save(
    saver: ModelCheckpoint, steps: int, guard: StepGuard, poison: dict[int, float], **fit: Any
) -> tuple[StepGuard, Trainer, LightningModule]:
    module = Regression()
    trainer = tiny.trainer(steps, callbacks=[guard, saver], enable_checkpointing=True)
    trainer.fit(module, loader(64, poison), weights_only=True, **fit)
    return guard, trainer, module


def test_the_norm_is_logged_with_the_loss(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    with pytest.warns(UserWarning, match="is skipped"):
        fit(6, {5: NAN}, logger=logger, log_every_n_steps=2)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    table = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [row["health/skipped_steps"] for row in table] == ["0.0", "1.0", "1.0"]
    assert all(math.isfinite(float(row["health/grad_norm"])) for row in table)


class Overflowing(Regression):
    """A finite loss whose gradient overflows at some steps."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss + (0 * self.head.bias).sqrt().sum() if batch_idx == 2 else loss  # 0 times an infinite slope


def test_gradient_alone_makes_a_step_bad() -> None:
    guard, module = StepGuard(), Overflowing()
    with pytest.warns(UserWarning, match="step 3 is skipped"):
        tiny.trainer(5, callbacks=[guard]).fit(module, loader())
    assert guard.bad_steps == [3]


def scaled(scale: float) -> MixedPrecision:
    """Make half precision with a loss scaler on the CPU, where Lightning uses none."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_loss_and_norm_are_unscaled() -> None:
    plain, _, _ = fit(3, {})
    guard, _, _ = fit(3, {}, plugins=[scaled(1024.0)])
    assert list(guard.window.losses) == pytest.approx(list(plain.window.losses), rel=2e-2)
    assert guard.vitals.loss == pytest.approx(plain.vitals.loss, rel=2e-2)
    assert guard.vitals.grad_norm == pytest.approx(plain.vitals.grad_norm, rel=2e-2)


def test_overflow_under_a_scaler_is_skipped_and_not_bad() -> None:
    guard, module, precision = StepGuard(), Overflowing(), scaled(1024.0)
    with pytest.warns(UserWarning, match="step 3 is skipped"):
        tiny.trainer(5, callbacks=[guard], plugins=[precision]).fit(module, loader())
    assert guard.skipped == 1
    assert guard.bad_steps == []
    assert precision.scaler is not None
    assert precision.scaler.get_scale() == 512  # the scaler noticed the overflow too
    assert all(value.isfinite().all() for value in module.state_dict().values())


def test_loss_that_is_not_finite_is_bad_under_a_scaler_too() -> None:
    with pytest.warns(UserWarning, match="step 3 is skipped"):
        guard, _, _ = fit(5, {4: NAN}, plugins=[scaled(1024.0)])
    assert guard.bad_steps == [3]


def test_the_latest_thousand_bad_steps_are_remembered() -> None:
    guard = StepGuard()

    class Before(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            guard.load_state_dict(guard.state_dict() | {"bad_steps": list(range(-1000, 0))})

    with pytest.warns(UserWarning, match="step 3 is skipped"):
        tiny.trainer(4, callbacks=[Before(), guard]).fit(Regression(), loader(64, {4: NAN}))
    assert guard.bad_steps == [*range(-999, 0), 3]
