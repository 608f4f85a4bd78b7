"""Logging of a fit's speed: images per second, waiting for data, MFU and memory."""

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
    """Counts and times of a stretch of training.

    Attributes:
        samples: samples of this rank.
        batches: batches of this rank.
        steps: optimizer steps.
        seconds: time in batches and between them, without validations and checkpoints.
        waiting: the part of ``seconds`` between the end of a batch and the start of the next: the wait for the data.
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
        """The share of the time spent waiting for data; NaN if no time passed."""
        return self.waiting / self.seconds if self.seconds else math.nan

    def images_per_second(self, ranks: int) -> float:
        """Return the images per second of all ranks, each as fast as this one; NaN if no time passed."""
        return self.samples * ranks / self.seconds if self.seconds else math.nan


class ThroughputLogger(Callback):
    """A callback that logs images per second, the time of a step, the share of waiting for data, MFU and memory.

    Every value is over the steps since the last logged step; the first step of a fit, which compiles and counts
    operations, is left out. It waits for the device only on logged steps. The floating-point operations of a batch are
    counted once, in the first batch of the fit; with gradient checkpointing they include the recomputation. MFU (PaLM,
    arXiv 2204.02311, appendix B) is logged if Lightning knows the device's peak.

    Args:
        count_flops: count the operations, for MFU. They are not counted if blocks are compiled: the counted batch would
            run uncompiled, with different rounding and more memory.

    Attributes:
        total: counts and times of this process since the fit's first step.
        samples: samples of all ranks since the first start, before a resume too, and those of skipped steps.
        flops: operations of one batch on one rank, forward and backward; 0 if unknown.
    """

    def __init__(self, count_flops: bool = True) -> None:
        self.count_flops = count_flops
        self._reset()

    def _reset(self) -> None:
        self.total, self._logged = Tally(), Tally()
        self.samples, self.flops, self._peak = 0, 0, 0
        self._counter: FlopCounter | None = None
        self._started: float | None = None  # when the running batch started
        self._ended: float | None = None  # when the last batch ended, unless something else came after it
        self._warm = self._counted = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look up the device's peak performance."""
        if self.count_flops and trainer.is_global_zero:
            precision = compute_dtype(trainer.precision_plugin)
            self._peak = get_available_flops(trainer.strategy.root_device, precision) or 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop timing the wait for data; start to count the operations of the first batch."""
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
        """Stop counting after the first batch."""
        if self._counter is not None:
            self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.flops, self._counter = self._counter.flops, None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and log on the steps that are logged."""
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
        """Keep the validation from counting as a wait for data."""
        self._ended = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the saving from counting as a wait for data."""
        self._ended = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the operation counter if a batch failed."""
        self._stop_counting()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of samples seen."""
        return {"samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of samples seen."""
        self.samples = state_dict["samples"]


def _size(batch: Any) -> int:
    return len(batch) if isinstance(batch, Batch) else extract_batch_size(batch)


def peak_memory(device: torch.device) -> float:
    """Return the peak memory so far in GiB: that of tensors on a CUDA device, otherwise that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class FlopCounter(DispatchMode):
    """A counter of floating-point operations by the formulas of torch's ``FlopCounterMode``.

    ``FlopCounterMode`` itself decomposes operators where it can, such as SiLU's gradient, which then rounds differently
    from the fused kernel; counting would change the results of the first batch.

    Attributes:
        flops: the operations counted; a multiplication and its addition are two.
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
