"""A summary of a fit when it ends, printed in one line and written to a file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from vlad_lightning.checkpoints.retention import fit_folder, last_checkpoint
from vlad_lightning.files import write_text
from vlad_lightning.health.callback_lookup import get_callback
from vlad_lightning.health.roll_back import RollBack
from vlad_lightning.health.step_guard import StepGuard
from vlad_lightning.health.throughput import ThroughputLogger, peak_memory
from vlad_lightning.health.weight_census import WeightCensus


class FitSummary(Callback):
    """A callback that prints one line and writes ``summary.json`` when a fit ends, fails or is interrupted.

    The file is beside the checkpoints. Steps, samples, skipped steps, spikes and roll-backs are counted since the first
    start of the fit, across resumes; time and speed are those of this process. Only the first rank writes.

    Args:
        enabled: False prints and writes nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._folder: Path | None = None
        self._since = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the clock."""
        if stage == "fit" and self.enabled:
            self._folder, self._since = fit_folder(trainer), time.perf_counter()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the summary of a fit that ended or was stopped by a callback, after its last checkpoint."""
        self._write(trainer, "stopped" if trainer.should_stop else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the summary of a fit that was interrupted or failed."""
        self._write(trainer, type(exception).__name__)

    def _write(self, trainer: Trainer, outcome: str) -> None:
        folder, self._folder = self._folder, None
        if folder is None or not trainer.is_global_zero:
            return
        values = {"outcome": outcome, **results(trainer, time.perf_counter() - self._since)}
        print(line(values), flush=True)
        text = json.dumps(values, indent=1) + "\n"
        try:
            write_text(folder / "summary.json", text)
        except OSError as error:  # raising it would hide the error that ended the fit
            rank_zero_warn(f"{folder / 'summary.json'} could not be written: {error}")


def results(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Collect the numbers of the other callbacks; None for a missing callback or an unknown number."""
    guard, back = get_callback(trainer, StepGuard), get_callback(trainer, RollBack)
    speed, counted = get_callback(trainer, ThroughputLogger), get_callback(trainer, WeightCensus)
    values = {
        "steps": trainer.global_step,
        "samples": speed and speed.samples,
        "seconds": round(seconds, 1),
        "images_per_second": speed and speed.total.images_per_second(trainer.world_size),
        "data_wait_share": speed and speed.total.wait_share,
        "skipped_steps": guard and guard.skipped,
        "loss_spikes": guard and guard.spikes_seen,
        "rollbacks": back and back.rollbacks,
        "peak_memory_gib": peak_memory(trainer.strategy.root_device),
        "last_loss": guard and guard.vitals.loss,
        "weights": None if counted is None or counted.census is None else str(counted.census),
        "last_checkpoint": last_checkpoint(trainer) or None,
    }
    return {k: _plain(v) for k, v in values.items()}


def _plain(value: Any) -> Any:
    """Round a float and turn NaN and infinity, which JSON does not have, into None."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def line(values: dict[str, Any]) -> str:
    """Format the summary as one line of ``name value`` pairs."""
    return "fit: " + ", ".join(f"{k} {'unknown' if v is None else v}" for k, v in values.items())
