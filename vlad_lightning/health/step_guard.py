"""A guard that skips an optimizer step if the loss or a gradient is not finite on any rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vlad_lightning.health.callback_lookup import get_callback
from vlad_lightning.health.loss_spikes import LossWindow, SpikeRule
from vlad_lightning.lightning_internals import accumulates

_REMEMBERED = 1000  # the number of latest bad steps that are remembered


class Vitals(NamedTuple):
    """The loss and gradient norm of a step before it is taken, equal on all ranks."""

    loss: float  # the mean over ranks and accumulated batches
    grad_norm: float  # of the whole model, before it is clipped

    @property
    def finite(self) -> bool:
        """Whether both are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class StepGuard(Callback):
    """A callback that skips steps whose loss or gradients are not finite, on all ranks alike, and detects loss spikes.

    Before the step, each rank computes the norm of the gradients it holds; one all-reduce of two numbers gives the
    global loss and norm, which are finite only if all parts are. So all ranks decide the same, whether the strategy
    replicates the weights or shards them. Reading the two numbers waits for the device once per step.

    A step is skipped by dropping its gradients: the optimizer then has nothing to do, so weights and moments stay
    untouched, no weight decay is applied, and :class:`~vlad_lightning.health.EMA` does not update. The step's samples
    are used up: the step counter and the learning-rate schedule go on as if the step had been taken.

    The norm is computed once per step: the stages clip the gradients by it
    (:func:`~vlad_lightning.modules.optimization.clip_by_measured_norm`).

    Under fp16, a gradient that overflows while the loss is finite is part of the loss scaler's search for its scale:
    the step is skipped and counted, but is not *bad*.

    Args:
        enabled: False checks nothing, and does not wait for the device.
        spikes: the rule by which a loss counts as a spike, and the action taken then.

    Attributes:
        vitals: loss and gradient norm of the latest step.
        skipped: how many steps were skipped.
        spikes_seen: how many steps had a loss that was a spike.
        bad_in_a_row: bad steps since the last good one; a step is bad if its loss or a gradient is not finite, or if
            its loss is a spike and the rule says ``roll_back``.
        bad_steps: the numbers of the latest bad steps.
        skipping: whether the latest step was skipped.
    """

    def __init__(self, enabled: bool = True, spikes: SpikeRule = SpikeRule()) -> None:
        self.enabled = enabled
        self.spikes = spikes
        self._reset()

    def _reset(self) -> None:
        self.vitals = Vitals(math.nan, math.nan)
        self.window = LossWindow(self.spikes)
        self.skipped = self.spikes_seen = self.bad_in_a_row = 0
        self.bad_steps: list[int] = []
        self.skipping = False
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self._reset()

    def measured_norm(self) -> Tensor | None:
        """Return the norm of the gradients to be applied, () float; None if there are none or weights are sharded."""
        return self._norm

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Add up the loss of the batches that one step accumulates; Lightning has divided it by their number."""
        if self.enabled:
            loss = loss.detach().float()
            self._loss = loss if self._loss is None else self._loss + loss

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Decide whether to take the step, and drop the gradients if not."""
        self._norm = None
        if not self.enabled or self._loss is None:
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        grads = gradients(optimizer)
        norms = _norms(grads)
        if not any(isinstance(grad, DTensor) for grad in grads):
            self._norm = next(iter(norms.values()), None)
        vitals = _over_ranks(self._loss, norms)
        self._loss = None
        if scaler is not None:
            vitals = vitals._replace(loss=vitals.loss / scaler.get_scale())
        self._classify(vitals, trainer.global_step + 1, overflow_is_bad=scaler is None)
        if self.skipping:
            optimizer.zero_grad(set_to_none=True)

    def _classify(self, vitals: Vitals, step: int, overflow_is_bad: bool) -> None:
        self.vitals = vitals
        spike = vitals.finite and self.window.add(vitals.loss)
        self.skipping = not vitals.finite or (spike and self.spikes.action != "log")
        self.skipped += self.skipping
        self.spikes_seen += spike
        broken = not vitals.finite and (overflow_is_bad or not math.isfinite(vitals.loss))
        if broken or (spike and self.spikes.action == "roll_back"):
            self.bad_in_a_row += 1
            self.bad_steps = [*self.bad_steps, step][-_REMEMBERED:]
        elif vitals.finite:
            self.bad_in_a_row = 0
        if self.skipping or spike:
            what = "spike of the loss" if spike else "loss or gradient that is not finite"
            then = "skipped" if self.skipping else "taken"
            rank_zero_warn(f"step {step} is {then}: {what} (loss {vitals.loss:.4g}, norm {vitals.grad_norm:.4g})")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the norm and the counts on the steps that are logged."""
        if self.enabled and is_logged(trainer):
            values = {
                "health/grad_norm": self.vitals.grad_norm,
                "health/skipped_steps": float(self.skipped),
                "health/loss_spikes": float(self.spikes_seen),
            }
            pl_module.log_dict(values, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the recent losses."""
        return {
            "skipped": self.skipped,
            "spikes_seen": self.spikes_seen,
            "bad_in_a_row": self.bad_in_a_row,
            "bad_steps": list(self.bad_steps),
            "losses": list(self.window.losses),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters and the recent losses."""
        self.skipped, self.spikes_seen = state_dict["skipped"], state_dict["spikes_seen"]
        self.bad_in_a_row, self.bad_steps = state_dict["bad_in_a_row"], list(state_dict["bad_steps"])
        self.window.losses.extend(state_dict["losses"])


def vitals_of(loss: Tensor, grads: Iterable[Tensor]) -> Vitals:
    """Compute the mean loss and the norm of all gradients over the ranks by one all-reduce.

    Args:
        loss: this rank's loss, float32.
        grads: this rank's gradients; a DTensor counts as its shard, any other tensor as a copy that every rank has.
    """
    return _over_ranks(loss, _norms(grads))


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _norms(grads: Iterable[Tensor]) -> dict[int, Tensor]:
    """Return the norms of this rank's gradients, keyed by the number of ranks that hold the same values."""
    world = _world()
    held: dict[int, list[Tensor]] = {}
    for grad in grads:
        held.setdefault(_copies(grad, world), []).append(grad.to_local() if isinstance(grad, DTensor) else grad)
    return {copies: get_total_norm(values) for copies, values in held.items()}


def _over_ranks(loss: Tensor, norms: Mapping[int, Tensor]) -> Vitals:
    world = _world()
    square = torch.zeros_like(loss)
    for copies, norm in norms.items():
        square = square + norm.float().to(loss.device).square() / copies
    both = torch.stack([loss / world, square])
    if world > 1:
        dist.all_reduce(both)  # a sum with a number that is not finite is not finite either
    mean, total = both.tolist()
    return Vitals(mean, math.sqrt(total) if total >= 0 else math.nan)


def _copies(grad: Tensor, world: int) -> int:
    """Return the number of ranks that hold the same values of a gradient."""
    if not isinstance(grad, DTensor):
        return world
    shards = math.prod(
        grad.device_mesh.size(i) for i, placement in enumerate(grad.placements) if not placement.is_replicate()
    )
    return world // shards


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """Return the gradients that the optimizer is about to apply."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def is_logged(trainer: Trainer) -> bool:
    """Return whether the step that has just ended is logged, as Lightning counts."""
    ended = not accumulates(trainer)
    every: int = cast(Any, trainer).log_every_n_steps  # mypy does not see this attribute
    return ended and (trainer.global_step % every == 0 or trainer.should_stop)


def skips_step(trainer: Trainer) -> bool:
    """Return whether the latest optimizer step was skipped."""
    guard = get_callback(trainer, StepGuard)
    return guard is not None and guard.skipping
