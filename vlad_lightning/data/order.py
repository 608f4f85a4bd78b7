"""The order of the training samples: a function of the seed, the epoch and the place in it, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor
from torch.utils.data import Sampler

from vlad_lightning.diffusion.generators import generator_for

Draw = tuple[int, ...]
"""A sample's number, and then those of the samples that are to take its place, in this order, where it is broken."""

_SPARES = 16


@dataclass(frozen=True)
class SampleOrder:
    """An endless sequence of sample numbers, one permutation of the data set after the other, dealt to optimizer steps.

    A *position* counts the samples that lie behind in this sequence: epoch ``e`` starts at ``e * samples``. Each step
    takes the next ``step_size`` samples. Of these, part ``m`` of the accumulated ones holds, on rank ``r`` of ``W``,
    the ``rows`` from ``(m W + r) rows`` on. So the samples of a step are the same for every number of devices and every
    split into accumulated parts, as long as the global batch is the same.

    The samples at an epoch's end that do not fill a global batch are passed over: no batch holds a sample twice, which
    Eq. 3 would take for a negative of itself, and every step weighs the same. The next epoch's permutation leaves out
    others. A data set smaller than the global batch makes one step an epoch: of all full parts, or where there is
    none, of one part with the whole set, filled up from its start until all devices have equally many. Then the
    samples of a step do depend on the number of devices.

    A sample that turns out to be broken is replaced by one of the same epoch from outside its step, which therefore
    stands in no device's batch, for the same reason: by the one in its place in the next step, else in the step after
    that, and so on around the epoch. So none serves two places of a step, though the devices do not know of each
    other's broken samples. Where that is not enough, as in a data set smaller than two steps, the other samples outside
    the step follow, and two places may get the same one. Like the samples themselves, the spare ones are a function of
    the seed, the epoch and the place alone.

    Attributes:
        samples: N, the size of the data set.
        batch_size: samples a device and part.
        world_size: W, the number of devices.
        accumulation: parts an optimizer step accumulates.
        seed: of the permutations.
        shuffled: False takes the samples as they come, the same in each epoch.

    Raises:
        ValueError: where a number is below 1.
    """

    samples: int
    batch_size: int
    world_size: int = 1
    accumulation: int = 1
    seed: int = 0
    shuffled: bool = True

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size", "world_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def rows(self) -> int:
        """Samples of a batch as a device gets it: ``batch_size``, or less where the data set is smaller."""
        return min(self.batch_size, math.ceil(self.samples / self.world_size))

    @property
    def parts(self) -> int:
        """Batches that a device accumulates for a step."""
        return max(1, min(self.accumulation, self.samples // (self.world_size * self.batch_size)))

    @property
    def step_size(self) -> int:
        """Samples of an optimizer step."""
        return self.parts * self.world_size * self.rows

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        return max(1, self.samples // self.step_size)

    def permutation(self, epoch: int) -> Tensor:
        """(N,) int64: the samples of an epoch in their order."""
        if not self.shuffled:
            return torch.arange(self.samples)
        return torch.randperm(self.samples, generator=generator_for("cpu", self.seed, "order", epoch))

    def after(self, position: int, steps: int, steps_an_epoch: int | None = None) -> int:
        """The position after further optimizer steps.

        Args:
            position: where they start; one of another global batch is gone on from, sample by sample.
            steps: how many were made.
            steps_an_epoch: where an epoch is cut short, how many it has; None means :attr:`steps`.
        """
        whole = min(steps_an_epoch or self.steps, self.steps)
        epoch = position // self.samples
        left = max(0, whole - self.steps_before(position))
        if steps < left:
            return position + steps * self.step_size
        epochs, rest = divmod(steps - left, whole)
        return (epoch + 1 + epochs) * self.samples + rest * self.step_size

    def steps_before(self, position: int) -> int:
        """How many of its epoch's steps lie before a position; one that has begun counts."""
        return math.ceil(position % self.samples / self.step_size)

    def batches(self, position: int, rank: int = 0) -> Iterator[list[Draw]]:
        """The batches of a rank from a position to the end of the epoch, each sample with those that may replace it."""
        position = self.after(position, 0)
        epoch, offset = divmod(position, self.samples)
        permutation = self.permutation(epoch)
        for step in range(self.steps - self.steps_before(position)):
            first = offset + step * self.step_size
            for part in range(self.parts):
                row = (part * self.world_size + rank) * self.rows
                slots = (torch.tensor(self._slots(row + i)) for i in range(self.rows))
                yield [tuple(permutation[(first + offset) % self.samples].tolist()) for offset in slots]

    def _slots(self, row: int) -> list[int]:
        """Where a row's sample and its spare ones stand in the epoch, counted from the start of the step."""
        size = self.step_size
        outside = max(0, self.samples - size)
        others = (size + (row + i) % outside for i in range(outside))
        return [row, *islice(chain(range(row + size, self.samples, size), others), _SPARES)]


class GlobalBatchSampler(Sampler[list[Draw]]):
    """A rank's batches of a :class:`SampleOrder`, an epoch at a time; a DataLoader's ``batch_sampler``.

    Args:
        order: what is dealt.
        rank: of this device.
        position: says where an iteration starts, when it starts. None counts by itself: each starts an epoch after the
            one before.

    Raises:
        ValueError: where ``rank`` is no rank of the order.
    """

    def __init__(self, order: SampleOrder, rank: int = 0, position: Callable[[], int] | None = None) -> None:
        if not 0 <= rank < order.world_size:
            raise ValueError(f"rank={rank}: must lie in [0, {order.world_size})")
        self.order = order
        self.rank = rank
        self._position = position
        self._next = 0

    @property
    def batch_size(self) -> int:
        """Samples a batch."""
        return self.order.rows

    def __len__(self) -> int:
        return self.order.steps * self.order.parts  # of a whole epoch, as Lightning counts also where it resumes in one

    def __iter__(self) -> Iterator[list[Draw]]:
        start = self._position() if self._position else self._next
        # only where it is read: a DataLoader with workers makes two iterators, and reads the second
        self._next = self.order.after(start, self.order.steps - self.order.steps_before(start))
        yield from self.order.batches(start, self.rank)
