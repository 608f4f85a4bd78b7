"""Batches of validation, test and prediction on several devices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from vlad_lightning.data.batches import BatchShard, shard_loader
from vlad_lightning.types import PromptBatch


def prompts(numbers: Sequence[int]) -> PromptBatch:
    names = tuple(f"p{number}" for number in numbers)
    return PromptBatch(names, names)


def shards(items: int, batch_size: int, world: int, in_blocks: bool, workers: int = 0) -> list[list[PromptBatch]]:
    parts = [BatchShard(range(items), batch_size, prompts, world, rank, in_blocks) for rank in range(world)]
    return [list(shard_loader(part, workers)) for part in parts]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("items", [1, 7, 8, 20, 21])
@pytest.mark.parametrize("in_blocks", [True, False])
def test_the_batches_equal_those_of_one_device_and_count_once(world: int, items: int, in_blocks: bool) -> None:
    (single,) = shards(items, 3, 1, in_blocks)
    ranks = shards(items, 3, world, in_blocks)
    assert len({len(batches) for batches in ranks}) == 1
    counted = [batch for batches in ranks for batch in batches if not batch.spare]
    assert sorted(batch.keys for batch in counted) == sorted(batch.keys for batch in single)
    assert len(ranks[0]) * world - len(counted) < world or in_blocks
    assert all(batch.keys in {one.keys for one in single} for batches in ranks for batch in batches)
    if in_blocks:
        assert counted == single  # in rank order
    else:
        in_turn = [batch for row in zip(*ranks, strict=True) for batch in row if not batch.spare]
        assert in_turn == single


def test_workers_read_the_same() -> None:
    assert shards(20, 3, 2, True, workers=2) == shards(20, 3, 2, True)


def test_a_rank_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank=2: must lie in \[0, 2\)"):
        BatchShard(range(3), 1, prompts, world_size=2, rank=2)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("in_blocks", [True, False])
def test_a_batch_without_items_is_replaced_and_not_counted(world: int, in_blocks: bool) -> None:
    items = [0, 1, None, None, 4, None, 6]
    parts = [BatchShard(items, 2, prompts, world, rank, in_blocks) for rank in range(world)]
    ranks = [list(shard_loader(part)) for part in parts]
    assert {len(batches) for batches in ranks} == {math.ceil(4 / world)}
    counted = [batch.keys for batches in ranks for batch in batches if not batch.spare]
    assert sorted(counted) == [("p0", "p1"), ("p4",), ("p6",)]
    assert all(len(batch) for batches in ranks for batch in batches)
