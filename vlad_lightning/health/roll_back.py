"""Rolling back to the last good checkpoint after too many bad steps in a row, while the data goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from vlad_lightning.checkpoints.checksum import MANIFEST, verify
from vlad_lightning.checkpoints.folder import read_metadata
from vlad_lightning.checkpoints.io import DurableCheckpointIO
from vlad_lightning.checkpoints.retention import checkpoints
from vlad_lightning.health.callback_lookup import get_callback
from vlad_lightning.health.ema import EMA
from vlad_lightning.health.step_guard import StepGuard, is_logged

_REMEMBERED = 1000  # the number of latest saves whose steps are remembered


class TrainingDivergedError(RuntimeError):
    """The error of a fit that diverges despite roll-backs, or has no checkpoint to roll back to."""


class RollBack(Callback):
    """A callback that rolls a fit back to one of its checkpoints after bad steps in a row.

    Only weights, optimizer, schedule and average are restored. The step counter, the sample counter and the order of
    the data go on, so the batches around the bad steps are not seen again (PaLM, arXiv 2204.02311, 5.1, skips 200 to
    500 batches). The schedule continues from the checkpoint's state, so training ends that many steps before the
    schedule does.

    Choice of the checkpoint: bad steps are skipped, so the newest checkpoint often holds the very weights that led to
    them. The newest checkpoint that was followed by ``proof`` good steps in a row is taken (PaLM: about 100 steps
    before the spike), otherwise the newest that was not saved between bad steps. Unreadable checkpoints are ignored.

    Args:
        after: bad steps in a row, as :class:`~vlad_lightning.health.StepGuard` counts them; None never rolls back.
        attempts: roll-backs to one checkpoint, after which the fit is stopped.
        proof: good steps in a row after which a checkpoint counts as good.

    Attributes:
        rollbacks: how often the fit was rolled back.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, after: int | None = 3, attempts: int = 3, proof: int = 100) -> None:
        for name, value, least in (("after", after, 1), ("attempts", attempts, 1), ("proof", proof, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.after = after
        self.attempts = attempts
        self.proof = proof
        self._reset()

    def _reset(self) -> None:
        self.rollbacks = 0
        self._saved: list[int] = []
        self._target = -1  # the step of the checkpoint that was restored last
        self._tries = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self._reset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Roll back after too many bad steps in a row; all ranks have the same count."""
        guard = get_callback(trainer, StepGuard)
        if guard is not None and self.after is not None and guard.bad_in_a_row >= self.after:
            self._go_back(trainer, pl_module, guard)
        if is_logged(trainer):
            pl_module.log("health/rollbacks", float(self.rollbacks), batch_size=1)

    def _go_back(self, trainer: Trainer, pl_module: LightningModule, guard: StepGuard) -> None:
        found = self._choose(trainer, guard) if trainer.is_global_zero else None
        found = trainer.strategy.broadcast(found)
        trouble = f"{guard.bad_in_a_row} bad steps in a row up to step {trainer.global_step} ({guard.vitals})"
        if found is None:
            raise TrainingDivergedError(
                f"{trouble}, and this fit has no good checkpoint to go back to. Lower the learning rate, lengthen the "
                "warm-up, look at the batches of these steps, or save earlier (--checkpoints.every_n_steps)"
            )
        self._tries = self._tries + 1 if found.step == self._target else 1
        self._target = found.step
        if self._tries > self.attempts:
            raise TrainingDivergedError(
                f"{trouble}, after {self.attempts} roll-backs to {found.path} of step {found.step} without a good "
                "checkpoint since. Lower the learning rate, or start from an earlier checkpoint with --ckpt_path"
            )
        restore(trainer, pl_module, found.path)
        guard.bad_in_a_row = 0
        self.rollbacks += 1
        rank_zero_warn(f"{trouble}: back to {found.path} of step {found.step}; the data goes on")

    def _choose(self, trainer: Trainer, guard: StepGuard) -> Saved | None:
        if isinstance(writer := trainer.strategy.checkpoint_io, DurableCheckpointIO):
            writer.wait()
        known = set(self._saved)
        whole = [saved for path in checkpoints(trainer) if (saved := read_saved(path)) and saved.step in known]
        newest_first = sorted((saved for saved in whole if not saved.amid_bad), key=lambda s: s.step, reverse=True)
        proven = (s for s in newest_first if is_proven(s.step, guard.bad_steps, trainer.global_step, self.proof))
        return next(proven, None) or next(iter(newest_first), None)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the steps that this fit saved, since the folder may hold checkpoints of other fits."""
        self._saved = [*self._saved, checkpoint["global_step"]][-_REMEMBERED:]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Allow rolling back to the checkpoint that the fit resumes from."""
        self._saved.append(checkpoint["global_step"])

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the steps that were saved."""
        return {"rollbacks": self.rollbacks, "saved": self._saved, "target": self._target, "tries": self._tries}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters."""
        self.rollbacks, self._target = state_dict["rollbacks"], state_dict["target"]
        self._tries = state_dict["tries"]
        self._saved = [*state_dict["saved"], *self._saved]


class Saved(NamedTuple):
    """A checkpoint that can be restored."""

    path: str
    step: int
    amid_bad: bool  # saved between bad steps


def read_saved(path: Path) -> Saved | None:
    """Read a checkpoint's step and state without its weights; None if it is damaged or cannot be resumed from."""
    try:
        if path.is_file() or (path / MANIFEST).is_file():  # a folder of Lightning's own strategies has no manifest
            verify(path)
        content = read_metadata(path)
        step, states = int(content["global_step"]), content.get("callbacks", {})
        if "lr_schedulers" not in content:  # weights only
            return None
    except Exception as error:  # a damaged file fails in many ways
        rank_zero_warn(f"{path} is passed over: it cannot be read ({type(error).__name__}: {error})")
        return None
    return Saved(str(path), step, states.get(StepGuard.__qualname__, {}).get("bad_in_a_row", 0) > 0)


def is_proven(step: int, bad_steps: Sequence[int], now: int, proof: int) -> bool:
    """Return whether ``proof`` good steps in a row followed ``step``, given the numbers of the bad steps."""
    return step + proof <= now and not any(step < bad <= step + proof for bad in bad_steps)


def restore(trainer: Trainer, pl_module: LightningModule, path: str) -> None:
    """Restore weights, optimizer, schedules, precision and averages by the trainer's strategy, and nothing else."""
    strategy = trainer.strategy
    checkpoint = strategy.load_checkpoint(path, weights_only=True)
    pl_module.on_load_checkpoint(checkpoint)
    strategy.load_model_state_dict(checkpoint, strict=pl_module.strict_loading)
    if strategy.lightning_restore_optimizer:
        strategy.load_optimizer_state_dict(checkpoint)
    for config, state in zip(trainer.lr_scheduler_configs, checkpoint["lr_schedulers"], strict=True):
        config.scheduler.load_state_dict(state)
    precision = trainer.precision_plugin
    if (state := checkpoint.get(type(precision).__qualname__)) is not None:
        precision.load_state_dict(state)
    if (ema := get_callback(trainer, EMA)) is not None:
        ema.on_load_checkpoint(trainer, pl_module, checkpoint)
        ema.on_fit_start(trainer, pl_module)  # to the device of the weights
    strategy.barrier("roll_back")
