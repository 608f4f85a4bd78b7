"""Bytes that a rank sends in a collective, and in a training step under each strategy; the mean over the ranks.

An optimal algorithm is assumed for each collective (a ring, as NCCL and gloo use for long messages): no rank sends a
byte twice. Sizes are those of the whole tensor: the sum of an all-reduce, the result of an all-gather on every rank,
the input of a reduce-scatter (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009).
"""

from __future__ import annotations


def all_reduce(size: float, ranks: int) -> float:
    """Return 2 (W - 1) / W of the tensor: a reduce-scatter, then an all-gather."""
    return reduce_scatter(size, ranks) + all_gather(size, ranks)


def all_gather(size: float, ranks: int) -> float:
    """Return (W - 1) / W of the resulting tensor: every part except its own passes through a rank."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def reduce_scatter(size: float, ranks: int) -> float:
    """Return (W - 1) / W of the summed tensor."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def all_to_all(size: float, ranks: int) -> float:
    """Return (W - 1) / W of a rank's tensor: it sends all but its own part."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def broadcast(size: float, ranks: int) -> float:
    """Return a rank's share of W - 1 copies of the tensor, one for each receiver."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks


def scatter(size: float, ranks: int) -> float:
    """Return a rank's share of what the root sends: all but its own part."""
    _check(size, ranks)
    return size * (ranks - 1) / ranks**2


def ddp(gradients: float, ranks: int, buffers: float = 0, bitmap: float = 0) -> float:
    """Return the bytes of one all-reduce of the gradients, in buckets; bf16 compression halves ``gradients``.

    Args:
        gradients: bytes of the gradients, as they are sent.
        ranks: W.
        buffers: bytes that are broadcast before each forward pass.
        bitmap: bytes of ``find_unused_parameters``: an int32 for each trained tensor.
    """
    return all_reduce(gradients + bitmap, ranks) + broadcast(buffers, ranks)


def sharded(weights: float, gradients: float, ranks: int, gathers: float = 2.0) -> float:
    """Return the bytes of FSDP2: weights are gathered for forward and backward passes, gradients are scattered.

    Args:
        weights: bytes of the sharded weights, as they are sent.
        gradients: bytes of their gradients, as they are sent.
        ranks: W.
        gathers: mean number of gathers of a weight in a step; a weight kept after the forward pass is gathered once.
    """
    return gathers * all_gather(weights, ranks) + reduce_scatter(gradients, ranks)


def hybrid(weights: float, gradients: float, shards: int, replicas: int, gathers: float = 2.0) -> float:
    """Return :func:`sharded` among ``shards`` ranks plus the all-reduce of a shard's gradients among ``replicas``."""
    return sharded(weights, gradients, shards, gathers) + all_reduce(gradients / shards, replicas)


def info_nce(rows: int, width: int, ranks: int, embeddings: int = 2, learned: int = 2, item: int = 4) -> float:
    """Return the bytes of InfoNCE: all ranks' embeddings are gathered, and their gradients go back to their ranks.

    Args:
        rows: B, pairs of a rank.
        width: D of an embedding.
        ranks: W.
        embeddings: number of gathered sets: images and texts.
        learned: number of these with a gradient; with a frozen vision tower only the texts.
        item: bytes of a number.
    """
    whole = rows * ranks * width * item
    return embeddings * all_gather(whole, ranks) + learned * reduce_scatter(whole, ranks)


def _check(size: float, ranks: int) -> None:
    if size < 0:
        raise ValueError(f"size is {size}; it must be at least 0")
    if ranks < 1:
        raise ValueError(f"ranks is {ranks}; it must be at least 1")
