"""Paired comparison of two systems on the same images: the difference, its interval and its p-value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.metrics.bootstrap import NO_WIDTH, unvaried_interval

PerImage = Mapping[str, tuple[float, float]]
"""What each image adds to a share, by its key: (part, whole), such as (words read, words requested)."""


@dataclass(frozen=True)
class Difference:
    """A share of the second system minus that of the first, over the images that both have.

    Attributes:
        value: the difference.
        low: lower end of its 95 % percentile interval; None for fewer than two images. If the difference is -1, 0 or 1
            in all resamples, it is that of :func:`~vlad_lightning.metrics.bootstrap.unvaried_interval`, or None if a
            part exceeds its whole.
        high: upper end of the interval, or None in the same cases.
        p: two-sided p-value: how often a difference as large arises if each image's two results are swapped at random.
        n: number of images.
    """

    value: float
    low: float | None
    high: float | None
    p: float
    n: int


def paired_difference(
    first: PerImage, second: PerImage, rng: np.random.Generator, resamples: int = 2000
) -> Difference | None:
    """Compare two systems image by image.

    The interval is a bootstrap over images, resampled together for both systems (Efron and Tibshirani 1993); the test
    is approximate randomisation (Noreen 1989), which is McNemar's test if each image has one item. Both use the pooled
    share, the sum of the parts over the sum of the wholes, as the results do.

    Args:
        first: per-image rows of the baseline system.
        second: per-image rows of the other system.
        rng: random generator of resamples and swaps.
        resamples: number of resamples, and of swaps.

    Returns:
        The difference; None if one system's wholes sum to 0 over the images that both have.
    """
    keys = sorted(first.keys() & second.keys())
    both = np.array([(*first[key], *second[key]) for key in keys], dtype=np.float64).reshape(-1, 2, 2)
    both = both[both.any(axis=(1, 2))]  # (n, system, part and whole)
    if not (both.sum(axis=0)[:, 1] > 0).all():
        return None
    count = len(both)
    value = float(_difference(both.sum(axis=0)))
    drawn = np.stack([both[rng.integers(count, size=count)].sum(axis=0) for _ in range(resamples)])
    difference = _difference(drawn)
    low, high = _interval(difference, value, both)
    swaps = rng.integers(2, size=(resamples, count)).astype(bool)
    swapped = np.stack([np.where(swap[:, None, None], both[:, ::-1], both).sum(axis=0) for swap in swaps])
    reached = np.abs(_difference(swapped)) >= abs(value) - 1e-12
    p = (1 + int(reached.sum())) / (1 + resamples)
    return Difference(value, low, high, p, count)


def _interval(drawn: NDArray[np.float64], value: float, both: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the 95 % percentiles of the resamples, or the unvaried interval if they are all -1, all 0 or all 1.

    The latter needs shares, in which no part exceeds its whole, so that two differ by at most 1; otherwise it is None.
    """
    if len(both) < 2:
        return None, None
    low, high = map(float, np.nanpercentile(drawn, (2.5, 97.5)))
    if high - low > NO_WIDTH or abs(value) not in (0, 1):
        return low, high
    if (both[..., 0] > both[..., 1]).any():
        return None, None
    return unvaried_interval(value, len(both), most=1.0, least=-1.0)


def _difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the second share minus the first: sums (..., system, part and whole) -> (...); NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[..., 0] / sums[..., 1]
    return shares[..., 1] - shares[..., 0]
