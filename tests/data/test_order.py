"""Test the order of the training samples in real loaders with workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vlad_lightning.data.order import Draw, GlobalBatchSampler, SampleOrder

# (devices, samples per device, accumulated batches): the same 24 samples per step
SPLITS = [
    *[(1, 24, 1), (1, 6, 4), (2, 12, 1), (2, 4, 3), (3, 8, 1)],
    *[(3, 2, 4), (4, 6, 1), (4, 3, 2), (8, 3, 1), (8, 1, 3)],
]


class Numbers(torch.utils.data.Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, draw: Draw) -> int:
        return draw[0]


def as_read(order: SampleOrder, position: int, workers: int = 0) -> list[list[int]]:
    """Collect the samples of each step from the devices' loaders, until the end of the epoch."""
    loaders = [
        DataLoader(
            Numbers(order.samples),
            batch_sampler=GlobalBatchSampler(order, rank, lambda: position),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        for rank in range(order.world_size)
    ]
    parts = [torch.cat(row).tolist() for row in zip(*loaders, strict=True)]
    assert len(parts) % order.parts == 0
    return [list(chain(*parts[i : i + order.parts])) for i in range(0, len(parts), order.parts)]


def expected(samples: int, size: int, epoch: int, seed: int = 0) -> list[list[int]]:
    """Cut the permutation into whole steps."""
    order = SampleOrder(samples, size, seed=seed).permutation(epoch).tolist()
    return [order[i : i + size] for i in range(0, samples - size + 1, size)]


@pytest.mark.parametrize(("world", "batch", "accumulation"), SPLITS)
def test_every_split_reads_the_same_samples_a_step(world: int, batch: int, accumulation: int) -> None:
    order = SampleOrder(101, batch, world, accumulation, seed=5)
    for epoch in (0, 3):
        whole = expected(101, 24, epoch, seed=5)
        assert as_read(order, epoch * 101) == whole
        assert as_read(order, epoch * 101 + 48) == whole[2:]  # from the middle
    assert as_read(order, 99) == expected(101, 24, 1, seed=5)  # the remaining samples fill no step


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_the_same(workers: int) -> None:
    order = SampleOrder(101, 4, 2, 3)
    assert as_read(order, 24, workers) == expected(101, 24, 0)[1:]


def test_each_epoch_is_a_different_permutation() -> None:
    order = SampleOrder(97, 8, seed=1)
    epochs = [order.permutation(epoch).tolist() for epoch in range(5)]
    assert all(sorted(epoch) == list(range(97)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert SampleOrder(97, 8, seed=2).permutation(0).tolist() not in epochs
    assert SampleOrder(97, 8, shuffled=False).permutation(3).tolist() == list(range(97))


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(1)
    first, drawn = SampleOrder(50, 8).permutation(0), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, SampleOrder(50, 8).permutation(0))


@settings(deadline=None)
@given(
    samples=st.integers(1, 200),
    batch=st.integers(1, 16),
    world=st.integers(1, 8),
    accumulation=st.integers(1, 4),
    start=st.integers(0, 3),
    steps=st.integers(0, 40),
)
def test_positions_equal_those_of_reading_step_by_step(
    samples: int, batch: int, world: int, accumulation: int, start: int, steps: int
) -> None:
    """Compare with reading step by step from the start of an epoch."""
    order = SampleOrder(samples, batch, world, accumulation)
    position, left = start * samples, steps
    while left >= order.steps:
        position, left = position + samples, left - order.steps
    assert order.after(start * samples, steps) == position + left * order.step_size
    halfway = order.after(start * samples, steps // 2)
    assert order.after(halfway, steps - steps // 2) == order.after(start * samples, steps)


@settings(deadline=None)
@given(samples=st.integers(1, 60), batch=st.integers(1, 9), world=st.integers(1, 5), accumulation=st.integers(1, 3))
def test_devices_have_equally_many_full_batches_and_share_no_sample(
    samples: int, batch: int, world: int, accumulation: int
) -> None:
    order = SampleOrder(samples, batch, world, accumulation)
    ranks = [list(GlobalBatchSampler(order, rank, lambda: 0)) for rank in range(world)]
    lengths = {len(GlobalBatchSampler(order, rank)) for rank in range(world)}
    assert {len(batches) for batches in ranks} == lengths
    assert lengths == {order.steps * order.parts}
    assert {len(one) for batches in ranks for one in batches} == {order.rows}
    read = [draw[0] for batches in ranks for one in batches for draw in one]
    if samples >= world * batch:
        assert len(read) == len(set(read)) > 0
        assert samples - len(read) < order.step_size
    else:  # too few: all are read, and none twice before all were read once
        assert set(read) == set(range(samples))
        assert len(read) < samples + world


def drawn(order: SampleOrder, position: int = 0) -> list[list[Draw]]:
    """Collect the possible replacements in each step, over all devices and accumulated batches."""
    parts = [
        list(chain(*row)) for row in zip(*(order.batches(position, r) for r in range(order.world_size)), strict=True)
    ]
    return [list(chain(*parts[i : i + order.parts])) for i in range(0, len(parts), order.parts)]


@settings(deadline=None)
@given(samples=st.integers(1, 80), batch=st.integers(1, 9), world=st.integers(1, 4), accumulation=st.integers(1, 3))
def test_a_replacement_is_in_no_batch_of_its_step_and_is_used_once(
    samples: int, batch: int, world: int, accumulation: int
) -> None:
    order = SampleOrder(samples, batch, world, accumulation)
    for step in drawn(order):
        own = {draw[0] for draw in step}
        assert all(own.isdisjoint(draw[1:]) for draw in step)
        outside = samples - order.step_size
        assert all(len(draw) == 1 + min(16, max(0, outside)) or outside < 16 for draw in step)
        assert outside <= 0 or all(set(draw[1:]) <= set(range(samples)) and len(draw) > 1 for draw in step)
        apart = min(16, outside // order.step_size) if outside > 0 else 0
        first = [spare for draw in step for spare in draw[1 : 1 + apart]]
        assert len(first) == len(set(first))


@pytest.mark.parametrize(("world", "batch", "accumulation"), SPLITS)
def test_every_split_uses_the_same_replacements(world: int, batch: int, accumulation: int) -> None:
    order, whole = SampleOrder(101, batch, world, accumulation, seed=5), SampleOrder(101, 24, seed=5)
    assert drawn(order, 101 + 24) == drawn(whole, 101)[1:] == drawn(whole, 101 + 24)


@pytest.mark.parametrize(("batch", "lengths"), [(4, [4, 4]), (16, [10]), (10, [10]), (3, [3, 3, 3])])
def test_a_tiny_set_still_trains(batch: int, lengths: list[int]) -> None:
    assert [len(one) for one in GlobalBatchSampler(SampleOrder(10, batch))] == lengths


def test_another_global_batch_continues_at_the_same_sample() -> None:
    before, after = SampleOrder(100, 10), SampleOrder(100, 16)
    place = before.after(0, 3)
    permutation = before.permutation(0).tolist()
    assert as_read(after, place) == [permutation[30:46], permutation[46:62], permutation[62:78], permutation[78:94]]
    assert after.steps_before(place) == 2
    assert after.after(place, 4) == 100
    assert after.after(place, 5) == 116


def test_a_shortened_epoch_ends_early() -> None:
    order = SampleOrder(100, 10)
    assert order.after(0, 2, steps_an_epoch=3) == 20
    assert order.after(0, 3, steps_an_epoch=3) == 100
    assert order.after(0, 7, steps_an_epoch=3) == 210
    assert order.after(50, 0, steps_an_epoch=3) == 100  # it was longer before
    assert order.after(0, 25, steps_an_epoch=15) == 250  # an epoch has ten at most


def test_without_a_position_each_iteration_is_the_next_epoch() -> None:
    def flat(batches: Iterator[list[Draw]]) -> list[int]:
        return [draw[0] for batch in batches for draw in batch]

    sampler = GlobalBatchSampler(SampleOrder(20, 5))
    for epoch in range(3):
        assert flat(iter(sampler)) == SampleOrder(20, 5).permutation(epoch).tolist()


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="world_size=0: must be at least 1"):
        SampleOrder(10, 2, world_size=0)
    with pytest.raises(ValueError, match=r"rank=2: must lie in \[0, 2\)"):
        GlobalBatchSampler(SampleOrder(10, 2, world_size=2), rank=2)
