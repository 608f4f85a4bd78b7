"""The order of the training samples: a function of only the seed, the epoch and the position in it."""

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
"""A sample's number, followed by those of the samples that replace it, in this order, if it is broken."""

_SPARES = 16


@dataclass(frozen=True)
class SampleOrder:
    """An endless sequence of sample numbers, one permutation of the data set after the other, split into steps.

    A *position* counts the samples already passed in this sequence: epoch ``e`` starts at ``e * samples``. Each
    optimizer step uses the next ``step_size`` samples. Of these, the accumulated part ``m`` on rank ``r`` of ``W``
    holds the ``rows`` samples from ``(m W + r) rows`` on. So the samples of a step are the same for every number of
    devices and every split into accumulated parts, as long as the global batch is the same.

    The samples at an epoch's end that do not fill a global batch are skipped: no batch holds a sample twice, which
    Eq. 3 would take for a negative of itself, and every step has the same weight. The next epoch's permutation skips
    others. A data set smaller than the global batch makes one step per epoch: of all full parts, or if there is none,
    of one part with the whole set, filled up from its start until all devices have equally many. Then the samples of
    a step do depend on the number of devices.

    A sample that turns out to be broken is replaced by a sample of the same epoch from outside its step, which is
    therefore in no device's batch, for the same reason: the sample in the same row of the next step, else of the step
    after that, and so on, wrapping around the epoch. So no replacement is used for two rows of a step, though the
    devices do not know of each other's broken samples. If these are not enough, as in a data set smaller than two
    steps, the other samples outside the step follow, and two rows may get the same one. Like the samples themselves,
    the replacements are a function of the seed, the epoch and the position alone.

    Attributes:
        samples: N, the size of the data set.
        batch_size: samples per device and part.
        world_size: W, the number of devices.
        accumulation: parts that an optimizer step accumulates.
        seed: seed of the permutations.
        shuffled: False uses the samples in their stored order, the same in each epoch.

    Raises:
        ValueError: if a number is below 1.
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
        """Samples per batch on a device: ``batch_size``, or less if the data set is smaller."""
        return min(self.batch_size, math.ceil(self.samples / self.world_size))

    @property
    def parts(self) -> int:
        """Batches that a device accumulates per step."""
        return max(1, min(self.accumulation, self.samples // (self.world_size * self.batch_size)))

    @property
    def step_size(self) -> int:
        """Samples per optimizer step."""
        return self.parts * self.world_size * self.rows

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return max(1, self.samples // self.step_size)

    def permutation(self, epoch: int) -> Tensor:
        """Return the samples of an epoch in their order, (N,) int64."""
        if not self.shuffled:
            return torch.arange(self.samples)
        return torch.randperm(self.samples, generator=generator_for("cpu", self.seed, "order", epoch))

    def after(self, position: int, steps: int, steps_an_epoch: int | None = None) -> int:
        """Return the position after further optimizer steps.

        Args:
            position: where they start; may come from another global batch.
            steps: number of steps made.
            steps_an_epoch: number of steps in an epoch that is cut short; None means :attr:`steps`.
        """
        whole = min(steps_an_epoch or self.steps, self.steps)
        epoch = position // self.samples
        left = max(0, whole - self.steps_before(position))
        if steps < left:
            return position + steps * self.step_size
        epochs, remainder = divmod(steps - left, whole)
        return (epoch + 1 + epochs) * self.samples + remainder * self.step_size

    def steps_before(self, position: int) -> int:
        """Return how many steps of its epoch lie before a position; a started step counts."""
        return math.ceil(position % self.samples / self.step_size)

    def batches(self, position: int, rank: int = 0) -> Iterator[list[Draw]]:
        """Yield a rank's batches from a position to the end of the epoch, each sample with its replacements."""
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
        """Return the offsets of a row's sample and its replacements in the epoch, from the start of the step."""
        size = self.step_size
        outside = max(0, self.samples - size)
        others = (size + (row + i) % outside for i in range(outside))
        return [row, *islice(chain(range(row + size, self.samples, size), others), _SPARES)]


class GlobalBatchSampler(Sampler[list[Draw]]):
    """A rank's batches of a :class:`SampleOrder`, one epoch per iteration; a DataLoader's ``batch_sampler``.

    Args:
        order: the order of the samples.
        rank: rank of this device.
        position: returns the position at which an iteration starts; called when it starts. None: each iteration
            starts an epoch after the previous one.

    Raises:
        ValueError: if ``rank`` is not a rank of the order.
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
        """Samples per batch."""
        return self.order.rows

    def __len__(self) -> int:
        return self.order.steps * self.order.parts  # of a whole epoch: Lightning expects it even when it resumes in one

    def __iter__(self) -> Iterator[list[Draw]]:
        start = self._position() if self._position else self._next
        # runs only when this iterator is read: a DataLoader with workers makes two iterators, and reads the second
        self._next = self.order.after(start, self.order.steps - self.order.steps_before(start))
        yield from self.order.batches(start, self.rank)
