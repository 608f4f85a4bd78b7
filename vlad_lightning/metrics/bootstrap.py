"""95 % percentile bootstrap intervals, by resampling images.

Words of one image are not independent, so the image is the cluster: its words are resampled together. Several images of
one prompt are not independent either: of their :func:`cluster_sums`, whole prompts are resampled.

If all images have the same value, such as 0 or 1, all resamples are equal and their percentiles have no width. In this
case the interval is :func:`unvaried_interval`, which for 0 and 1 is Wilson's over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.types import MetricResult

Statistic = Callable[..., NDArray[np.float64]]

NO_WIDTH = 1e-6
"""An interval at most this wide counts as zero width: MARIO-Eval's 1 is 1 - 1e-8 / words, and rounding adds noise."""

_Z = float(stats.norm.ppf(0.975))
_DRAWN = 2_000_000  # entries that are drawn at once: 2000 resamples of half a million images would take 8 GB a column


def bootstrap_result(
    statistic: Statistic,
    columns: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    n: int,
    resamples: int = 2000,
    most: float | None = 1.0,
) -> MetricResult:
    """Compute a statistic over images with its 95 % percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: called as ``statistic(*columns, axis=-1)``; reduces that axis of every column.
        columns: K arrays (n_images,) float64; entry i of each belongs to image i.
        rng: random generator of the resamples.
        n: how many items the value averages.
        resamples: number of resamples.
        most: upper bound of an image's value, whose lower bound is 0; None if there is no upper bound.

    Returns:
        The result. ``low`` and ``high`` are None for a single image, which has no spread, and if all images have the
        same value of a statistic without a bound; with a bound see :func:`unvaried_interval`.
    """
    value = float(statistic(*columns, axis=-1))
    if len(columns[0]) < 2:
        return MetricResult(value, n=n)
    result = stats.bootstrap(
        tuple(columns),
        statistic,
        n_resamples=resamples,
        batch=max(1, _DRAWN // len(columns[0])),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=rng,
    )
    low, high = map(float, result.confidence_interval)
    if high - low > NO_WIDTH:
        return MetricResult(value, low=low, high=high, n=n)
    if most is None:
        return MetricResult(value, n=n)
    return MetricResult(value, *unvaried_interval(value, len(columns[0]), most), n=n)


def unvaried_interval(value: float, images: int, most: float = 1.0, least: float = 0.0) -> tuple[float, float]:
    """Return a 95 % interval of a mean if all images have the same value, and others could have any in a range.

    ``n`` of ``n`` equal images bound the share of different images by q = z^2 / (n + z^2), the width of Wilson's
    interval (1927) at 0 and 1; about 4 / n, close to the 3 / n of the one-sided rule of three. Such a share can move
    the mean by at most q times the distance to the end of the range: hence [value - q (value - least), value + q
    (most - value)]. At the ends of the range this is Wilson's own interval.

    Args:
        value: the value of all images.
        images: n, the number of images.
        most: upper end of the range.
        least: lower end of the range.

    Returns:
        Lower and upper end of the interval.
    """
    others = _Z**2 / (images + _Z**2)
    return value - others * (value - least), value + others * (most - value)


def ratio_of_sums(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    """Divide the sum of the numerators by the sum of the denominators along ``axis``."""
    return numerators.sum(axis) / denominators.sum(axis)


def f_of_ratios(
    precision_parts: NDArray[np.float64],
    precision_wholes: NDArray[np.float64],
    recall_parts: NDArray[np.float64],
    recall_wholes: NDArray[np.float64],
    axis: int = -1,
) -> NDArray[np.float64]:
    """Return F = 2 P R / (P + R + 1e-8), as MARIO-Eval has it, of a precision and a recall that are ratios of sums."""
    precision = ratio_of_sums(precision_parts, precision_wholes, axis)
    recall = ratio_of_sums(recall_parts, recall_wholes, axis)
    return 2 * precision * recall / (precision + recall + 1e-8)


def cluster_sums(values: NDArray[np.float64], clusters: Sequence[str]) -> NDArray[np.float64]:
    """Sum the values of each cluster, such as those of all images of a prompt.

    A ratio of sums is the same over the sums as over the values, so a bootstrap over the sums is that over clusters
    (Davison and Hinkley 1997, section 3.8).

    Args:
        values: (n,) float64.
        clusters: n names.

    Returns:
        (m,) float64, in the sorted order of the m different names.

    Example:
        >>> cluster_sums(np.array([1.0, 2.0, 4.0]), ["b", "a", "b"]).tolist()
        [2.0, 5.0]
    """
    _, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64)


def clustered_result(
    statistic: Statistic,
    columns: Sequence[NDArray[np.float64]],
    clusters: Sequence[str],
    rng: np.random.Generator,
    n: int,
    resamples: int = 2000,
    most: float | None = 1.0,
) -> MetricResult:
    """Compute any statistic over images with its interval, where the images of a cluster are resampled together.

    For a ratio of sums, :func:`ratio_result` of the :func:`cluster_sums` is the same and faster.

    Args:
        statistic: as for :func:`bootstrap_result`.
        columns: as for :func:`bootstrap_result`.
        clusters: the cluster of each image.
        rng: random generator of the resamples.
        n: how many items the value averages.
        resamples: number of resamples.
        most: as for :func:`bootstrap_result`.
    """
    value = float(statistic(*columns, axis=-1))
    _, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    if len(members) < 2:
        return MetricResult(value, n=n)
    drawn = [
        float(statistic(*(column[chosen] for column in columns), axis=-1))
        for chosen in (np.concatenate([members[i] for i in draw]) for draw in _draws(len(members), resamples, rng))
    ]
    low, high = map(float, np.percentile(drawn, (2.5, 97.5)))
    if high - low > NO_WIDTH:
        return MetricResult(value, low=low, high=high, n=n)
    if most is None:
        return MetricResult(value, n=n)
    return MetricResult(value, *unvaried_interval(value, len(members), most), n=n)


def _draws(count: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    return (rng.integers(count, size=count) for _ in range(resamples))


def ratio_result(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    rng: np.random.Generator,
    n: int | None = None,
    resamples: int = 2000,
    most: float | None = 1.0,
) -> MetricResult:
    """Compute a share such as "words read / words requested", pooled over images, with its interval.

    Images with both at zero have no share and are left out.

    Args:
        numerators: (n_images,) float64.
        denominators: (n_images,) float64, not negative, at least one above zero.
        rng: random generator of the resamples.
        n: how many items the share is over; None means the sum of the denominators.
        resamples: number of resamples.
        most: upper bound of an image's ratio, 1 for a share; None if there is no upper bound.

    Raises:
        ValueError: if the denominators sum to zero.
    """
    if denominators.sum() <= 0:
        raise ValueError(f"denominators sum to {denominators.sum()}; a share needs a sum above 0")
    counted = (denominators != 0) | (numerators != 0)
    columns = (numerators[counted], denominators[counted])
    count = round(float(denominators.sum())) if n is None else n
    return bootstrap_result(ratio_of_sums, columns, rng, n=count, resamples=resamples, most=most)
