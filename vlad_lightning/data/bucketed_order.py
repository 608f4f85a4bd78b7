"""The order of training samples in which all samples of an optimizer step have the same frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.data.order import SampleOrder
from vlad_lightning.diffusion.generators import generator_for


@dataclass(frozen=True)
class BucketedOrder(SampleOrder):
    """A :class:`SampleOrder` whose steps hold samples of one bucket each.

    An epoch's permutation has the whole steps of all buckets, shuffled, and at its end the samples that fill no step of
    their bucket, which are skipped; the next epoch skips others. A position within a step, where a fit with another
    global batch ended, goes on with the next whole step.

    Attributes:
        buckets: (N,) int: the bucket of each sample. At least one bucket must fill a step.

    Raises:
        ValueError: if there is not a bucket for each sample, or none fills a step.
    """

    buckets: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.buckets) != self.samples:
            raise ValueError(f"buckets has {len(self.buckets)} entries; {self.samples} samples need one each")
        if not self.steps:
            raise ValueError(f"buckets has {self._counts.max()} samples at most; a step needs {self.step_size}")

    @cached_property
    def _counts(self) -> np.ndarray:
        return np.bincount(self.buckets)

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return int((self._counts // self.step_size).sum())

    def permutation(self, epoch: int) -> Tensor:
        """Return the samples of an epoch in their order, (N,) int64: whole steps of one bucket each, then the rest."""
        order = super().permutation(epoch).numpy()
        order = order[np.argsort(self.buckets[order], kind="stable")]  # bucket after bucket, each as it was shuffled
        parts = np.split(order, np.cumsum(self._counts)[:-1])
        whole = [len(part) // self.step_size * self.step_size for part in parts]
        steps = np.concatenate([part[:end] for part, end in zip(parts, whole, strict=True)]).reshape(-1, self.step_size)
        if self.shuffled:
            steps = steps[
                torch.randperm(len(steps), generator=generator_for("cpu", self.seed, "buckets", epoch)).numpy()
            ]
        rest = [part[end:] for part, end in zip(parts, whole, strict=True)]
        return torch.from_numpy(np.concatenate([steps.ravel(), *rest]))

    def after(self, position: int, steps: int, steps_an_epoch: int | None = None) -> int:
        """See :class:`SampleOrder`; from a position within a step, the first step is the next whole one."""
        epoch, offset = divmod(position, self.samples)
        whole = -(-offset // self.step_size)
        if whole < self.steps:
            position = epoch * self.samples + whole * self.step_size
        return super().after(position, steps, steps_an_epoch)
