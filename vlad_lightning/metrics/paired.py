"""Paired comparison of two systems on the same images: the difference, its interval and its p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.metrics.bootstrap import NO_WIDTH, Statistic, ratio_of_sums, unvaried_interval

PerImage = Mapping[str, tuple[float, float]]
"""What each image adds to a share, by its key: (part, whole), such as (words read, words requested)."""


_ENOUGH = 50  # swaps that reach a difference, for its p-value to be known well enough
_SWAPS = 2_000_000  # that are drawn at once: 2000 of half a million images would take 16 GB


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
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    rng: np.random.Generator,
    resamples: int = 2000,
    statistic: Statistic = ratio_of_sums,
    most_swaps: int = 0,
) -> Difference | None:
    """Compare two systems image by image.

    The interval is a bootstrap over images, resampled together for both systems (Efron and Tibshirani 1993); the test
    is approximate randomisation (Noreen 1989), which is McNemar's test if each image has one item. Both use the pooled
    share, the sum of the parts over the sum of the wholes, as the results do. With the sums of each prompt's images in
    place of the images (:func:`~vlad_lightning.metrics.bootstrap.cluster_sums`), prompts are resampled and swapped.

    Args:
        first: per-image rows of the baseline system.
        second: per-image rows of the other system.
        rng: random generator of resamples and swaps.
        resamples: number of resamples, and of swaps.
        statistic: computes the result from the rows' columns; its columns are parts and wholes in turn.
        most_swaps: swaps go on beyond ``resamples`` up to this number while fewer than 50 of them reach the difference
            (Besag and Clifford 1991): one of many tests needs a p-value below 1 / (1 + resamples).

    Returns:
        The difference; None if one system's wholes sum to 0 over the images that both have.
    """
    keys = sorted(first.keys() & second.keys())
    width = len(first[keys[0]]) if keys else 2
    both = np.array([(*first[key], *second[key]) for key in keys], dtype=np.float64).reshape(-1, 2, width)
    both = both[both.any(axis=(1, 2))]  # (n, system, parts and wholes)
    if not (both.sum(axis=0)[:, 1::2] > 0).all():
        return None
    count = len(both)
    value = float(_difference(both.sum(axis=0), statistic))
    resampled = np.stack([both[rng.integers(count, size=count)].sum(axis=0) for _ in range(resamples)])
    difference = _difference(resampled, statistic)
    low, high = _interval(difference, value, both)
    total, exchange = both.sum(axis=0), (both[:, ::-1] - both).reshape(count, -1)
    drawn, reached, block = 0, 0, max(1, _SWAPS // count)
    while drawn < resamples or (drawn < most_swaps and reached < _ENOUGH):
        blocks = (min(block, resamples - start) for start in range(0, resamples, block))
        changed = [rng.integers(2, size=(rows, count)).astype(np.float64) @ exchange for rows in blocks]
        swapped = total + np.concatenate(changed).reshape(-1, *total.shape)
        reached += int((np.abs(_difference(swapped, statistic)) >= abs(value) - 1e-12).sum())
        drawn += resamples
    return Difference(value, low, high, (1 + reached) / (1 + drawn), count)


def _interval(drawn: NDArray[np.float64], value: float, both: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the 95 % percentiles of the resamples, or the unvaried interval if they are all -1, all 0 or all 1.

    The latter needs shares, in which no part exceeds its whole, so that two differ by at most 1; otherwise it is None.
    """
    if len(both) < 2:
        return None, None
    low, high = map(float, np.nanpercentile(drawn, (2.5, 97.5)))
    if high - low > NO_WIDTH or abs(value) not in (0, 1):
        return low, high
    if (both[..., ::2] > both[..., 1::2]).any():
        return None, None
    return unvaried_interval(value, len(both), most=1.0, least=-1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979); those at most alpha are differences that hold together.

    Args:
        p_values: m values in [0, 1], in any order.

    Returns:
        For each of them the smallest level at which its test rejects while all m together err with that probability.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    left = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * left), 1.0)
    corrected = np.empty_like(raised)
    corrected[order] = raised
    return [float(value) for value in corrected]


def _difference(sums: NDArray[np.float64], statistic: Statistic) -> NDArray[np.float64]:
    """Return the second result minus the first: sums (..., system, parts and wholes) -> (...); NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        results = statistic(*(sums[..., column, None] for column in range(sums.shape[-1])), axis=-1)
    return results[..., 1] - results[..., 0]
