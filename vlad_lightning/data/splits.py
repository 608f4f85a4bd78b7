"""Train, validation and test splits that depend on the samples' names only."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence


def split(
    keys: Sequence[str], val_share: float, test_share: float, seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Split samples by a hash of their keys.

    A sample stays in its split when others are added or removed, except at the border of a tiny data set.

    Args:
        keys: keys of at least one sample.
        val_share: share of the validation split; each share that is not 0 gets at least one sample.
        test_share: share of the test split.
        seed: seed of the hash; another seed gives another split.

    Returns:
        The numbers of the train, validation and test samples, each in the hash's order. Splits are disjoint, unless
        there are fewer samples than splits: these then share samples, with a warning.
    """
    order = in_hash_order(keys, seed)
    wanted = 1 + (val_share > 0) + (test_share > 0)
    if len(order) < wanted:
        warnings.warn(f"{len(order)} samples for {wanted} splits: the splits share samples", stacklevel=2)
        return order[-1:], order[:1] if val_share else [], order[:1] if test_share else []
    positions = [_position(keys[i], seed) for i in order]
    tests = sum(position < test_share for position in positions)
    tests = min(max(tests, int(test_share > 0)), len(order) - wanted + 1)
    vals = sum(test_share <= position < test_share + val_share for position in positions)
    vals = min(max(vals, int(val_share > 0)), len(order) - tests - 1)
    return order[tests + vals :], order[tests : tests + vals], order[:tests]


def in_hash_order(keys: Sequence[str], seed: int) -> list[int]:
    """Return the samples' numbers, shuffled into an order that depends on their keys and the seed only."""
    return sorted(range(len(keys)), key=lambda i: (_position(keys[i], seed), i))


def _position(key: str, seed: int) -> float:
    """Return a sample's position in [0, 1), from the hash of its key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
