"""Validation, test and prediction on several devices: whole batches are dealt, each device gets equally many."""

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
    """What has a length and entries: a sequence or a data set. An entry that is None is left out of its batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class BatchShard(Dataset[BatchT], Generic[BatchT]):
    """The batches that one device gets of those a single device would see, as they are.

    What is drawn for a batch and measured on it therefore does not depend on the number of devices. Where the batches
    cannot be shared out evenly, a device repeats one, marked as ``spare``: all make equally many steps, so none waits
    for another in a collective operation, and nothing is counted twice. A batch that is left without items is replaced
    by the next one that has some, likewise as a spare.

    Args:
        items: what is to be batched.
        batch_size: items a batch; the last may have fewer.
        collate: makes a batch of items.
        world_size: number of devices.
        rank: this one's.
        in_blocks: True gives each device neighbouring batches: what is gathered in rank order is in the items' order.
            False deals them in turn: the first batches of every device are the set's first ones.

    Raises:
        ValueError: where ``rank`` is no rank; when a batch is asked for, where every item is left out.
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
        """How many all devices share."""
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
    """A loader of a shard's batches in their order."""
    return Loader(
        shard,
        batch_size=None,
        # of the one device that a shard is for: Lightning leaves a loader with such a sampler alone
        sampler=DistributedSampler(shard, num_replicas=1, rank=0, shuffle=False),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
    )


def _as_it_is(batch: BatchT) -> BatchT:
    return batch
