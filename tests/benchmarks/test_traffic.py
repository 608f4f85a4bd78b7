"""Compare the arithmetic with the messages of each algorithm, sent one by one."""

from __future__ import annotations

import math

import pytest
import traffic

RANKS = (1, 2, 3, 4, 8, 512)


def ring(size: float, ranks: int, rounds: int) -> float:
    """Return the bytes a rank sends if each round passes one of ``ranks`` parts to the next rank."""
    return sum(size / ranks for _ in range(rounds * (ranks - 1)))


@pytest.mark.parametrize("ranks", RANKS)
def test_ring_collectives_equal_a_simulated_ring(ranks: int) -> None:
    assert traffic.all_gather(1000, ranks) == pytest.approx(ring(1000, ranks, 1))
    assert traffic.reduce_scatter(1000, ranks) == pytest.approx(ring(1000, ranks, 1))
    assert traffic.all_reduce(1000, ranks) == pytest.approx(ring(1000, ranks, 2))
    assert traffic.all_to_all(1000, ranks) == pytest.approx(ring(1000, ranks, 1))


@pytest.mark.parametrize("ranks", RANKS)
def test_a_roots_bytes_are_averaged_over_the_ranks(ranks: int) -> None:
    by_copy = 1000 * (ranks - 1)  # one copy to each of the others
    assert traffic.broadcast(1000, ranks) * ranks == pytest.approx(by_copy)
    by_part = (1000 / ranks) * (ranks - 1)
    assert traffic.scatter(1000, ranks) * ranks == pytest.approx(by_part)


def test_a_scatter_from_every_rank_is_an_all_to_all() -> None:
    assert 4 * traffic.scatter(1000, 4) == pytest.approx(traffic.all_to_all(1000, 4))  # gloo's way to do InfoNCE


def test_ddp_is_two_sends_of_the_gradients_and_compression_halves_it() -> None:
    assert traffic.ddp(1000, 4) == pytest.approx(2 * 3 / 4 * 1000)
    assert traffic.ddp(1000 / 2, 4) == pytest.approx(traffic.ddp(1000, 4) / 2)
    more = traffic.ddp(1000, 4, buffers=100, bitmap=40)
    assert more == pytest.approx(traffic.all_reduce(1000, 4) + traffic.all_reduce(40, 4) + traffic.broadcast(100, 4))


def test_sharding_sends_half_more_than_ddp_and_the_same_with_bf16_weights() -> None:
    assert traffic.sharded(1000, 1000, 8) == pytest.approx(1.5 * traffic.ddp(1000, 8))
    assert traffic.sharded(500, 1000, 8) == pytest.approx(traffic.ddp(1000, 8))
    assert traffic.sharded(1000, 1000, 8, gathers=1) == pytest.approx(traffic.ddp(1000, 8))


def test_hybrid_lies_between_ddp_and_sharding() -> None:
    assert traffic.hybrid(500, 1000, shards=8, replicas=1) == pytest.approx(traffic.sharded(500, 1000, 8))
    assert traffic.hybrid(500, 1000, shards=1, replicas=8) == pytest.approx(traffic.ddp(1000, 8))
    across = traffic.hybrid(500, 1000, 8, 4) - traffic.sharded(500, 1000, 8)
    assert across == pytest.approx(traffic.all_reduce(1000 / 8, 4))


def test_info_nce_gathers_embeddings_and_returns_their_gradients() -> None:
    rows, width, ranks = 4, 128, 4
    mine = rows * width * 4
    assert traffic.info_nce(rows, width, ranks) == pytest.approx(2 * (ranks - 1) * mine + 2 * (ranks - 1) * mine)
    assert traffic.info_nce(rows, width, ranks, learned=0) == pytest.approx(2 * (ranks - 1) * mine)
    assert traffic.info_nce(rows, width, 1) == 0


def test_one_rank_sends_nothing() -> None:
    assert traffic.ddp(1000, 1, buffers=10, bitmap=10) == 0
    assert traffic.sharded(1000, 1000, 1) == 0


@pytest.mark.parametrize(("size", "ranks", "named"), [(-1, 2, "size"), (1, 0, "ranks")])
def test_values_out_of_range_are_refused(size: float, ranks: int, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} is {min(size, ranks)}"):
        traffic.all_reduce(size, ranks)


def test_many_ranks_send_twice_the_tensor_and_never_more() -> None:
    assert traffic.all_reduce(1.0, 10**6) < 2
    assert math.isclose(traffic.all_reduce(1.0, 10**6), 2, rel_tol=1e-5)
