"""How fast a fit is, and what it waits for."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from torch.utils.flop_counter import flop_registry

from vlad_lightning.health.step_guard import is_logged
from vlad_lightning.lightning_internals import DispatchMode, accumulates, compute_dtype, is_compiled, overloads_of
from vlad_lightning.types import Batch


@dataclass
class Tally:
    """What was done in a stretch of training.

    Attributes:
        samples: of this rank.
        batches: of this rank.
        steps: optimizer steps.
        seconds: spent in batches and on the way from one to the next; not in validations and checkpoints.
        waiting: of them, between the end of a batch and the start of the next, which is the wait for the data.
    """

    samples: int = 0
    batches: int = 0
    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def __sub__(self, other: Tally) -> Tally:
        return Tally(**{k: v - getattr(other, k) for k, v in vars(self).items()})

    @property
    def wait_share(self) -> float:
        """Of the seconds, those spent waiting for the data; NaN where no time passed."""
        return self.waiting / self.seconds if self.seconds else math.nan

    def images_per_second(self, ranks: int) -> float:
        """Of all ranks, each as fast as this one; NaN where no time passed."""
        return self.samples * ranks / self.seconds if self.seconds else math.nan


class ThroughputLogger(Callback):
    """Logs images a second, the time of a step, the share spent waiting for data, MFU and memory.

    Every result is over the steps since the one logged before; the first step of a fit, which compiles and measures,
    is left out. Only on logged steps does it wait for the device. The floating-point operations of a batch are counted
    once, in the first batch of the fit; with gradient checkpointing they include what is computed again. MFU (PaLM,
    arXiv 2204.02311, appendix B) is logged where Lightning knows the device's peak.

    Args:
        count_flops: count the operations, for MFU. Not done where blocks are compiled: the counted batch would run
            uncompiled, with other rounding and more memory.

    Attributes:
        total: since the fit's first step, of this process.
        samples: of all ranks since the first fit, also before it was resumed; with skipped steps.
        flops: of one batch on one rank, forward and backward; 0 where unknown.
    """

    def __init__(self, count_flops: bool = True) -> None:
        self.count_flops = count_flops
        self._reset()

    def _reset(self) -> None:
        self.total, self._logged = Tally(), Tally()
        self.samples, self.flops, self._peak = 0, 0, 0
        self._counter: FlopCounter | None = None
        self._started: float | None = None  # the batch that runs, once the first step is over
        self._ended: float | None = None  # the batch before, unless something else came after it
        self._warm = self._counted = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look up the device's peak."""
        if self.count_flops and trainer.is_global_zero:
            precision = compute_dtype(trainer.precision_plugin)
            self._peak = get_available_flops(trainer.strategy.root_device, precision) or 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The wait is over."""
        now = time.perf_counter()
        if self._ended is not None:
            self.total.waiting += now - self._ended
            self.total.seconds += now - self._ended
        self._started, self._ended = now, None
        if self.count_flops and trainer.is_global_zero and not self._counted:
            self._counted = True
            if not is_compiled(pl_module):
                self._counter = FlopCounter()
                self._counter.__enter__()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first batch has been counted."""
        if self._counter is not None:
            self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.flops, self._counter = self._counter.flops, None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log, on the steps that are logged."""
        size = _size(batch)
        self.samples += size * trainer.world_size
        logged = is_logged(trainer)
        if logged and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        now = time.perf_counter()
        if self._warm and self._started is not None:
            self.total.samples += size
            self.total.batches += 1
            self.total.steps += not accumulates(trainer)
            self.total.seconds += now - self._started
        self._warm = self._warm or not accumulates(trainer)
        if logged:
            self._log(trainer, pl_module)
        self._ended = now if self._warm else None

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        since = self.total - self._logged
        self._logged = Tally(**vars(self.total))
        values = {"throughput/peak_memory_gib": peak_memory(trainer.strategy.root_device)}
        if since.steps and since.seconds:
            values["throughput/images_per_s"] = since.images_per_second(trainer.world_size)
            values["throughput/step_s"] = since.seconds / since.steps
            values["throughput/data_wait_share"] = since.wait_share
            if self.flops:
                rate = self.flops * since.batches / since.seconds
                values["throughput/tflops_per_device"] = rate / 1e12
                values |= {"throughput/mfu": rate / self._peak} if self._peak else {}
        pl_module.log_dict(values, batch_size=1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What comes now is no wait for the data."""
        self._ended = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What comes now is no wait for the data."""
        self._ended = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no counter behind a batch that broke."""
        self._stop_counting()

    def state_dict(self) -> dict[str, Any]:
        """The samples seen."""
        return {"samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.samples = state_dict["samples"]


def _size(batch: Any) -> int:
    return len(batch) if isinstance(batch, Batch) else extract_batch_size(batch)


def peak_memory(device: torch.device) -> float:
    """The most memory so far, in GiB: what tensors took on a CUDA device, otherwise what the process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class FlopCounter(DispatchMode):
    """Counts by the formulas of torch's ``FlopCounterMode``.

    That one takes operators apart where it can, SiLU's gradient among them, which then rounds differently from the
    kernel of its own; so the first batch, which is counted, would not be the one that is not.

    Attributes:
        flops: a multiplication and its addition are two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(overloads_of(func))
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result
