"""Two systems on the same images: how much they differ, and how often chance alone would let them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.metrics.bootstrap import NO_WIDTH, unvaried_interval

PerImage = Mapping[str, tuple[float, float]]
"""By an image's key, what it adds to a share: (part, whole), such as (words read, words asked for)."""


@dataclass(frozen=True)
class Difference:
    """A share of the second system minus that of the first, over the images that both have.

    Attributes:
        value: the difference.
        low: lower end of its 95 % percentile interval; None for fewer than two images. Where all images agree that the
            systems differ by nothing, or by all there is, it is that of
            :func:`~vlad_lightning.metrics.bootstrap.unvaried_interval`, and None for what is no share.
        high: upper end; likewise.
        p: two-sided; how often a difference as large arises where each image's two results are swapped at random.
        n: images.
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

    The interval is a bootstrap over images, drawn together for both systems (Efron and Tibshirani 1993); the test is
    approximate randomisation (Noreen 1989), of which McNemar's is the case of one thing an image. Both are of the
    pooled share, sum of the parts over sum of the wholes, which is what the results are.

    Args:
        first: of the system that is compared with.
        second: of the other one.
        rng: where resamples and swaps are drawn from.
        resamples: how many of each.

    Returns:
        None where there is no image in both with anything to share.
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
    """The 95 % percentiles of resamples; where all of these are -1, 0 or 1, what further images could make of it.

    That is known of shares only, in which no image's part is larger than its whole: two of them differ by 1 at most.
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
    """(..., 2, 2) sums by system, of parts and wholes -> (...) the second share minus the first; NaN without one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[..., 0] / sums[..., 1]
    return shares[..., 1] - shares[..., 0]
