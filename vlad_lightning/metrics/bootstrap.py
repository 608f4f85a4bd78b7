"""95 % percentile bootstrap intervals, the images being what is drawn again.

Words of one picture stand or fall together, so a whole image is a cluster: its words are drawn with it or not at all.
Where every image says 0, or every one 1, all resamples are equal: there a share has Wilson's interval over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.types import Figure

Statistic = Callable[..., NDArray[np.float64]]


def bootstrap_figure(
    statistic: Statistic,
    columns: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    n: int,
    resamples: int = 2000,
) -> Figure:
    """A statistic over images with its 95 % percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: called as ``statistic(*columns, axis=-1)``; reduces that axis of every column.
        columns: K arrays (n_images,) float64; entry i of each belongs to image i.
        rng: where the resamples are drawn from.
        n: how many things the value averages.
        resamples: how many times the images are drawn again.

    Returns:
        The figure; ``low`` and ``high`` are None for a single image, which says nothing about the spread.
    """
    value = float(statistic(*columns, axis=-1))
    if len(columns[0]) < 2:
        return Figure(value, n=n)
    result = stats.bootstrap(
        tuple(columns), statistic, n_resamples=resamples, paired=True, vectorized=True, method="percentile", rng=rng
    )
    low, high = result.confidence_interval
    return Figure(value, low=float(low), high=float(high), n=n)


def ratio_of_sums(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    """Sum of the numerators over the sum of the denominators along ``axis``."""
    return numerators.sum(axis) / denominators.sum(axis)


def ratio_figure(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    rng: np.random.Generator,
    n: int | None = None,
    resamples: int = 2000,
    bounded: bool = True,
) -> Figure:
    """A share such as "words read / words requested", pooled over images.

    Images where both are zero say nothing about the share: they are left out.

    Args:
        numerators: (n_images,) float64.
        denominators: (n_images,) float64, not negative, at least one above zero.
        rng: where the resamples are drawn from.
        n: how many things the share is of; None means the sum of the denominators.
        resamples: how many times the images are drawn again.
        bounded: whether it lies in [0, 1], as a share does; then one of exactly 0 or 1 has Wilson's interval (1927), of
            which the images are the trials.

    Raises:
        ValueError: if the denominators sum to zero.
    """
    if denominators.sum() <= 0:
        raise ValueError(f"denominators sum to {denominators.sum()}; a share needs a sum above 0")
    tells = (denominators != 0) | (numerators != 0)
    columns = (numerators[tells], denominators[tells])
    count = round(float(denominators.sum())) if n is None else n
    figure = bootstrap_figure(ratio_of_sums, columns, rng, n=count, resamples=resamples)
    images = len(columns[0])
    if not bounded or images < 2 or (columns[0].any() and not np.array_equal(*columns)):
        return figure
    ones = images if columns[0].any() else 0
    low, high = stats.binomtest(ones, images).proportion_ci(0.95, method="wilson")
    return replace(figure, low=float(low), high=float(high))


def mean_figure(values: NDArray[np.float64], rng: np.random.Generator, resamples: int = 2000) -> Figure:
    """The mean of ``values`` (n_images,) float64 over images.

    Raises:
        ValueError: if there are none.
    """
    if len(values) == 0:
        raise ValueError("values is empty; a mean needs at least one image")
    return bootstrap_figure(np.mean, (values,), rng, n=len(values), resamples=resamples)
