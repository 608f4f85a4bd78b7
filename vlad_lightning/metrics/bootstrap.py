"""95 % percentile bootstrap intervals, the images being what is drawn again.

Words of one picture stand or fall together, so a whole image is a cluster: its words are drawn with it or not at all.

Where all images say the same, such as 0 or 1, all resamples are equal, and their percentiles have no width. There the
interval is :func:`unvaried_interval`, which for 0 and 1 is Wilson's over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.types import MetricResult

Statistic = Callable[..., NDArray[np.float64]]

NO_WIDTH = 1e-6
"""An interval that is no wider has none: MARIO-Eval's 1 is 1 - 1e-8 / words, and rounding is no variance."""

_Z = float(stats.norm.ppf(0.975))


def bootstrap_result(
    statistic: Statistic,
    columns: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    n: int,
    resamples: int = 2000,
    most: float | None = 1.0,
) -> MetricResult:
    """A statistic over images with its 95 % percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: called as ``statistic(*columns, axis=-1)``; reduces that axis of every column.
        columns: K arrays (n_images,) float64; entry i of each belongs to image i.
        rng: where the resamples are drawn from.
        n: how many things the value averages.
        resamples: how many times the images are drawn again.
        most: no image says more, and none less than 0; None where that has no bound.

    Returns:
        The result. ``low`` and ``high`` are None for a single image, which says nothing about the spread, and where all
        images say the same of something without a bound; see :func:`unvaried_interval` for the rest of these.
    """
    value = float(statistic(*columns, axis=-1))
    if len(columns[0]) < 2:
        return MetricResult(value, n=n)
    result = stats.bootstrap(
        tuple(columns), statistic, n_resamples=resamples, paired=True, vectorized=True, method="percentile", rng=rng
    )
    low, high = map(float, result.confidence_interval)
    if high - low > NO_WIDTH:
        return MetricResult(value, low=low, high=high, n=n)
    if most is None:
        return MetricResult(value, n=n)
    return MetricResult(value, *unvaried_interval(value, len(columns[0]), most), n=n)


def unvaried_interval(value: float, images: int, most: float = 1.0, least: float = 0.0) -> tuple[float, float]:
    """A 95 % interval of a mean where all images say the same, and a further one could say anything in a range.

    That ``n`` of ``n`` images say so bounds the share of others by q = z^2 / (n + z^2), the width of Wilson's interval
    (1927) at 0 and 1; about 4 / n, near the 3 / n of the rule of three, which has one side only. Images of that share
    may move the mean by q times their distance from the value at most: hence [value - q (value - least), value + q
    (most - value)]. At the ends of the range this is Wilson's own interval.

    Args:
        value: what all images say.
        images: n, how many they are.
        most: the end of the range.
        least: its start.

    Returns:
        The ends.
    """
    others = _Z**2 / (images + _Z**2)
    return value - others * (value - least), value + others * (most - value)


def ratio_of_sums(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    """Sum of the numerators over the sum of the denominators along ``axis``."""
    return numerators.sum(axis) / denominators.sum(axis)


def ratio_result(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    rng: np.random.Generator,
    n: int | None = None,
    resamples: int = 2000,
    most: float | None = 1.0,
) -> MetricResult:
    """A share such as "words read / words requested", pooled over images.

    Images where both are zero say nothing about the share: they are left out.

    Args:
        numerators: (n_images,) float64.
        denominators: (n_images,) float64, not negative, at least one above zero.
        rng: where the resamples are drawn from.
        n: how many things the share is of; None means the sum of the denominators.
        resamples: how many times the images are drawn again.
        most: no image's ratio is larger, 1 for a share; None where that has no bound.

    Raises:
        ValueError: if the denominators sum to zero.
    """
    if denominators.sum() <= 0:
        raise ValueError(f"denominators sum to {denominators.sum()}; a share needs a sum above 0")
    tells = (denominators != 0) | (numerators != 0)
    columns = (numerators[tells], denominators[tells])
    count = round(float(denominators.sum())) if n is None else n
    return bootstrap_result(ratio_of_sums, columns, rng, n=count, resamples=resamples, most=most)
