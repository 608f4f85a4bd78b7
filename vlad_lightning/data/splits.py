"""Train, validation and test splits that depend on the samples' names only."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np


def positions_of(keys: Sequence[str], seed: int) -> np.ndarray:
    """Return a position in [0, 1) for each key, (N,) float64, from the hash of the key."""
    # by number: a source's own sequence may have no end when it is iterated
    return np.fromiter((_position(keys[i], seed) for i in range(len(keys))), np.float64, len(keys))


def split(positions: np.ndarray, val_share: float, test_share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split samples by their positions, which are hashes of their keys.

    A sample stays in its split when others are added or removed, except at the border of a tiny data set.

    Args:
        positions: positions in [0, 1) of at least one sample, (N,) float64. Equal ones are in the same split.
        val_share: share of the validation split; each share that is not 0 gets at least one sample.
        test_share: share of the test split.

    Returns:
        The numbers of the train, validation and test samples, int64, each in the order of the positions. Splits are
        disjoint, unless there are fewer samples than splits: these then share samples, with a warning.
    """
    order = in_hash_order(positions)
    wanted = 1 + (val_share > 0) + (test_share > 0)
    if len(order) < wanted:
        warnings.warn(f"{len(order)} samples for {wanted} splits: the splits share samples", stacklevel=2)
        return order[-1:], order[: int(val_share > 0)], order[: int(test_share > 0)]
    tests = int((positions < test_share).sum())
    tests = min(max(tests, int(test_share > 0)), len(order) - wanted + 1)
    vals = int((positions < test_share + val_share).sum()) - int((positions < test_share).sum())
    vals = min(max(vals, int(val_share > 0)), len(order) - tests - 1)
    return order[tests + vals :], order[tests : tests + vals], order[:tests]


def in_hash_order(positions: np.ndarray) -> np.ndarray:
    """Return the samples' numbers in the order of their positions, (N,) int64."""
    return np.argsort(positions, kind="stable")


def _position(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
