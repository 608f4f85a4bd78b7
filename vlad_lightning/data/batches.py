"""Validation, test and prediction on several devices: whole batches are dealt out, equally many to each device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import Dataset, DistributedSampler

from vlad_lightning.data.workers import Loader, start_worker
from vlad_lightning.types import Batch, PromptBatch

BatchT = TypeVar("BatchT", Batch, PromptBatch)


class Items(Protocol):
    """A sequence or a data set, with a length and entries. An entry that is None is left out of its batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class BatchShard(Dataset[BatchT], Generic[BatchT]):
    """One device's share of the batches that a single device would see.

    The random numbers and measurements of a batch therefore do not depend on the number of devices. If the batches
    cannot be shared evenly, a device repeats a batch, marked as ``spare``: all make equally many steps, so none waits
    for another in a collective operation, and nothing is counted twice. A batch that is left without items is replaced
    by the next batch with items, also marked as spare.

    Args:
        items: the items to batch.
        batch_size: items per batch; the last may have fewer.
        collate: makes a batch from items.
        world_size: number of devices.
        rank: rank of this device.
        in_blocks: True gives each device neighbouring batches: results gathered in rank order are in the items' order.
            False deals them in turn: the first batches of every device are the set's first ones.

    Raises:
        ValueError: if ``rank`` is not a rank, or, when a batch is requested, if every item is left out.
    """

    def __init__(
        self,
        items: Items,
        batch_size: int,
        collate: Callable[[Sequence[Any]], BatchT],
        world_size: int = 1,
        rank: int = 0,
        in_blocks: bool = True,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank}: must lie in [0, {world_size})")
        self.items = items
        self.batch_size = batch_size
        self.collate: Callable[[Sequence[Any]], BatchT] = collate
        self.world_size = world_size
        self.rank = rank
        self.in_blocks = in_blocks

    @property
    def batches(self) -> int:
        """Number of batches over all devices."""
        return math.ceil(len(self.items) / self.batch_size)

    def __len__(self) -> int:
        return math.ceil(self.batches / self.world_size)

    def __getitem__(self, index: int) -> BatchT:
        if not 0 <= index < len(self):
            raise IndexError(f"index={index}: must lie in [0, {len(self)})")
        number = self.rank * len(self) + index if self.in_blocks else index * self.world_size + self.rank
        for step in range(self.batches):
            if items := self._items((number + step) % self.batches):
                batch = self.collate(items)
                return batch if number < self.batches and not step else replace(batch, spare=True)
        raise ValueError(f"none of the {len(self.items)} samples can be read")

    def _items(self, number: int) -> list[Any]:
        first = number * self.batch_size
        items = [self.items[i] for i in range(first, min(first + self.batch_size, len(self.items)))]
        return [item for item in items if item is not None]


def shard_loader(shard: BatchShard[BatchT], num_workers: int = 0, pin_memory: bool = False) -> Loader[BatchT]:
    """Return a loader of a shard's batches in their order."""
    return Loader(
        shard,
        batch_size=None,
        # over the shard of one device: Lightning does not replace a distributed sampler
        sampler=DistributedSampler(shard, num_replicas=1, rank=0, shuffle=False),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
    )


def _as_it_is(batch: BatchT) -> BatchT:
    return batch
