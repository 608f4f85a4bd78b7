from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.data.bucketed_order import BucketedOrder
from vlad_lightning.data.buckets import AspectBuckets, nearest_frames
from vlad_lightning.data.order import GlobalBatchSampler, SampleOrder


def test_the_frames_of_stable_diffusion() -> None:
    frames = AspectBuckets(step=64, longest=2.0).frames(512)
    assert frames[0] == (512, 512)
    assert set(frames[1:]) == {(w, h) for h, w in frames[1:]}  # each format lies and stands
    assert (704, 384) not in frames  # 640 x 384 is the largest of this width
    assert {(640, 384), (576, 448), (448, 576), (384, 640)} <= set(frames)
    for height, width in frames:
        assert height % 64 == width % 64 == 0
        assert height * width <= 512 * 512 < (max(height, width) + 64) * min(height, width)  # as long as it may be
        assert max(height, width) <= 2 * min(height, width)


def test_without_other_proportions_there_is_the_square_alone() -> None:
    assert AspectBuckets(step=32, longest=1.0).frames(64) == ((64, 64),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0}, "step is 0; it must be a whole number from 1"),
        ({"longest": 0.5}, r"longest is 0.5; it must lie in \[1, 8\]"),
        ({"longest": math.nan}, r"longest is nan; it must lie in \[1, 8\]"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AspectBuckets(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step is 64; it must divide size, 96"):
        AspectBuckets().frames(96)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.sampled_from([1, 2, 5]))
def test_each_picture_gets_the_nearest_frame_that_enough_others_have(values, least):
    frames = AspectBuckets(step=8, longest=2.0).frames(32)
    numbers = nearest_frames(np.array(values), frames, least)
    used, counts = np.unique(numbers, return_counts=True)
    if len(values) >= least:
        assert counts.min() >= least
    else:
        assert not numbers.any()
    for value, number in zip(values, numbers.tolist(), strict=True):
        distances = {i: abs(math.log(value * frames[i][0] / frames[i][1])) for i in used.tolist()}
        assert distances[number] == pytest.approx(min(distances.values()), abs=1e-9)


counts = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(lambda each: sum(each) > 0)


def ordered(sizes: list[int], batch: int, world: int, accumulation: int, seed: int = 0) -> BucketedOrder | None:
    """Return the order of shuffled samples of buckets of these sizes; None if none fills a step."""
    buckets = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(buckets)
    plain = SampleOrder(len(buckets), batch, world, accumulation, seed)
    if max(sizes) < plain.step_size:
        return None
    return BucketedOrder(**vars(plain), buckets=buckets)


@settings(deadline=None)
@given(counts, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_a_step_has_one_bucket_and_an_epoch_each_sample_at_most_once(sizes, batch, world, accumulation, epoch):
    order = ordered(sizes, batch, world, accumulation)
    if order is None:
        return
    ranks = [list(GlobalBatchSampler(order, rank, lambda: epoch * order.samples)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {order.steps * order.parts}
    first = [[draw[0] for draw in batch] for batches in ranks for batch in batches]
    seen = [sample for batch in first for sample in batch]
    assert len(seen) == len(set(seen)) == sum(size // order.step_size for size in sizes) * order.step_size
    for step in range(order.steps):
        rows = [
            draw[0] for batches in ranks for part in range(order.parts) for draw in batches[step * order.parts + part]
        ]
        assert len(set(order.buckets[rows].tolist())) == 1
    assert sorted(order.permutation(epoch).tolist()) == list(range(order.samples))


@settings(deadline=None)
@given(counts, st.integers(1, 4), st.integers(0, 200), st.integers(0, 30))
def test_going_on_is_going_through(sizes, batch, position, steps):
    """From any position, the steps that follow are those of whole steps, and stopping between two changes nothing."""
    order = ordered(sizes, batch, 1, 1)
    if order is None:
        return
    halfway = order.after(position, steps // 2)
    assert order.after(halfway, steps - steps // 2) == order.after(position, steps)
    epoch, offset = divmod(order.after(position, 0), order.samples)
    assert offset % order.step_size == 0 or not list(order.batches(position))
    read = [[draw[0] for draw in batch] for batch in order.batches(position)]
    whole = [[draw[0] for draw in batch] for batch in order.batches(epoch * order.samples)]
    assert read == whole[len(whole) - len(read) :]


def test_the_same_steps_on_any_number_of_devices_and_other_ones_in_the_next_epoch() -> None:
    buckets = np.arange(101) % 3
    orders = [BucketedOrder(101, batch, world, 1, 5, buckets=buckets) for world, batch in ((1, 8), (2, 4), (4, 2))]
    assert all(torch.equal(order.permutation(2), orders[0].permutation(2)) for order in orders)
    assert not torch.equal(orders[0].permutation(2), orders[0].permutation(3))
    steps = orders[0].permutation(0)[: orders[0].steps * 8].reshape(-1, 8)[:, 0]
    assert len(set(buckets[steps[:6]].tolist())) > 1  # buckets alternate


def test_buckets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="buckets has 3 entries; 4 samples need one each"):
        BucketedOrder(4, 1, buckets=np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="buckets has 2 samples at most; a step needs 4"):
        BucketedOrder(4, 4, buckets=np.array([0, 0, 1, 1]))
