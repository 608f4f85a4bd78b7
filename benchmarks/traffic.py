"""Bytes a rank sends in a collective, and in a training step under each strategy; the mean over the ranks.

An optimal algorithm is assumed for each collective (a ring, as NCCL and gloo run them for long messages): no rank sends
a byte twice. Sizes are those of the whole tensor: what an all-reduce sums, what an all-gather leaves on every rank,
what a reduce-scatter starts from (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009).
"""

from __future__ import annotations


def all_reduce(size: float, ranks: int) -> float:
    """2 (W - 1) / W of the tensor: a reduce-scatter, then an all-gather."""
    return reduce_scatter(size, ranks) + all_gather(size, ranks)


def all_gather(size: float, ranks: int) -> float:
    """(W - 1) / W of the tensor that results: every part but one's own passes through a rank."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def reduce_scatter(size: float, ranks: int) -> float:
    """(W - 1) / W of the tensor that is summed."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def all_to_all(size: float, ranks: int) -> float:
    """(W - 1) / W of what a rank holds: all but its own part leaves it."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def broadcast(size: float, ranks: int) -> float:
    """The tensor arrives W - 1 times; a rank's share of that."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def scatter(size: float, ranks: int) -> float:
    """The root sends all but its own part; a rank's share of that."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks**2


def ddp(gradients: float, ranks: int, buffers: float = 0, bitmap: float = 0) -> float:
    """One all-reduce of the gradients, in buckets; bf16 compression halves ``gradients``.

    Args:
        gradients: bytes of them, as they travel.
        ranks: W.
        buffers: bytes that are broadcast before each forward pass.
        bitmap: bytes of ``find_unused_parameters``: an int32 for each trained tensor.
    """
    return all_reduce(gradients + bitmap, ranks) + broadcast(buffers, ranks)


def sharded(weights: float, gradients: float, ranks: int, gathers: float = 2.0) -> float:
    """FSDP2: the weights are gathered for the forward pass and again for the backward pass, gradients are scattered.

    Args:
        weights: bytes of the sharded weights, as they travel.
        gradients: bytes of their gradients, as they travel.
        ranks: W.
        gathers: of a weight in a step, the mean: one that is kept after the forward pass is gathered once.
    """
    return gathers * all_gather(weights, ranks) + reduce_scatter(gradients, ranks)


def hybrid(weights: float, gradients: float, shards: int, replicas: int, gathers: float = 2.0) -> float:
    """Sharded among ``shards`` ranks; a shard's gradients are all-reduced among ``replicas``; see :func:`sharded`."""
    return sharded(weights, gradients, shards, gathers) + all_reduce(gradients / shards, replicas)


def info_nce(rows: int, width: int, ranks: int, embeddings: int = 2, learned: int = 2, item: int = 4) -> float:
    """The embeddings of every rank are gathered, and their gradients return to where they came from.

    Args:
        rows: B, pairs of a rank.
        width: D of an embedding.
        ranks: W.
        embeddings: sets that are gathered: images and texts.
        learned: those of them with a gradient; with a frozen vision tower the texts alone.
        item: bytes of a number.
    """
    whole = rows * ranks * width * item
    return embeddings * all_gather(whole, ranks) + learned * reduce_scatter(whole, ranks)


def _check(size: float, ranks: int) -> None:
    if size < 0:
        raise ValueError(f"size is {size}; it must be at least 0")
    if ranks < 1:
        raise ValueError(f"ranks is {ranks}; it must be at least 1")
