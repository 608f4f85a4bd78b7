"""Agreement of several readers on the same images: which words each of them finds.

A decision is whether a reader finds a wanted word. Shares of equal decisions are high for any readers if nearly all
words are found; kappa and alpha say how much of what chance would leave open is agreed on: 1 for equal decisions, 0 for
chance, below 0 for less than that.

Intervals resample images, whose words stay together (:mod:`~vlad_lightning.metrics.bootstrap`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.layout.prompt_parser import comparable
from vlad_lightning.metrics.bootstrap import bootstrap_result, ratio_result
from vlad_lightning.metrics.ocr import readings
from vlad_lightning.types import MetricResult

Decisions = Sequence[Sequence[bool]]
"""For each image, for each of its wanted words, whether a reader finds it."""


@dataclass(frozen=True)
class PairAgreement:
    """How two readers agree.

    Attributes:
        words: share of the words on which both decide the same.
        images: share of the images on which both decide the same on every word.
        kappa: Cohen's kappa (1960) of the words; None if both find all words, or both none.
    """

    words: MetricResult
    images: MetricResult
    kappa: MetricResult | None


@dataclass(frozen=True)
class Agreement:
    """How several readers agree.

    Attributes:
        words: share of the words on which all of them decide the same.
        images: share of the images on which all decide the same on every word.
        alpha: Krippendorff's alpha of the words (2004, nominal data); None if all find all words, or all none.
        pairs: each pair of readers, in the order in which they are given.
    """

    words: MetricResult
    images: MetricResult
    alpha: MetricResult | None
    pairs: Mapping[tuple[str, str], PairAgreement]


def words_found(lines: Sequence[str], words: Sequence[str]) -> list[bool]:
    """Return for each wanted word whether it is among the :func:`~vlad_lightning.metrics.ocr.readings` of the lines.

    The sum is the ``words_read`` of :func:`~vlad_lightning.metrics.ocr.ocr_row`. A word that is wanted twice and read
    once is found once, the first time.

    Args:
        lines: lines read.
        words: words wanted; those without a letter or digit that could be compared have no entry.

    Example:
        >>> words_found(["big SALE", "to day"], ["Sale", "today", "sale"])
        [True, True, False]
    """
    left = Counter(readings(lines, words))
    found = []
    for word in filter(None, map(comparable, words)):
        found.append(left[word] > 0)
        left[word] -= 1
    return found


def agreement(found: Mapping[str, Decisions], rng: np.random.Generator, resamples: int = 2000) -> Agreement:
    """Compute how readers agree on the words of the same images; images without a wanted word do not count.

    Args:
        found: the decisions of each reader by its name, at least two readers.
        rng: random generator of the resamples.
        resamples: number of resamples for each interval.

    Raises:
        ValueError: for fewer than two readers, if they differ in their images or words, or if there is no word.
    """
    table = _table(found)
    names = list(found)
    pairs = {
        (names[i], names[j]): _pair_agreement([image[[i, j]] for image in table], rng, resamples)
        for i, j in combinations(range(len(names)), 2)
    }
    return Agreement(*_shares(table, rng, resamples), _alpha_result(table, rng, resamples), pairs)


def cohen_kappa(
    both: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    neither: NDArray[np.float64],
    axis: int = -1,
) -> NDArray[np.float64]:
    """Compute Cohen's kappa of two readers from counts that are summed along ``axis``; 1 where all decisions are equal.

    Args:
        both: words that both find.
        first: words that only the first finds.
        second: words that only the second finds.
        neither: words that neither finds.
        axis: the axis of the images.

    Example:
        >>> float(cohen_kappa(*(np.array([count]) for count in (20.0, 5.0, 10.0, 15.0))).round(3))
        0.4
    """
    a, b, c, d = (counts.sum(axis) for counts in (both, first, second, neither))
    total = a + b + c + d
    expected = ((a + b) * (a + c) + (c + d) * (b + d)) / total**2
    return _beyond_chance((b + c) / total, 1 - expected)


def krippendorff_alpha(
    disagreed: NDArray[np.float64], found: NDArray[np.float64], missed: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    """Compute Krippendorff's alpha of yes-or-no decisions from sums along ``axis``; 1 where all decisions are equal.

    Args:
        disagreed: for each image the sum over its words of k (m - k) / (m - 1), if k of m readers find the word.
        found: for each image the sum of k.
        missed: for each image the sum of m - k.
        axis: the axis of the images.
    """
    ones, zeros = found.sum(axis), missed.sum(axis)
    total = ones + zeros
    return _beyond_chance(disagreed.sum(axis), ones * zeros / (total - 1))


def _beyond_chance(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - observed / expected disagreement; 1 where none is expected, and so none observed."""
    some = expected > 0
    return 1 - np.where(some, observed, 0.0) / np.where(some, expected, 1.0)


def _table(found: Mapping[str, Decisions]) -> list[NDArray[np.bool_]]:
    """Return for each image with a word its decisions (readers, words)."""
    if len(found) < 2:
        raise ValueError(f"found has the readers {', '.join(found) or 'none'}; agreement needs at least two")
    words = {name: [len(image) for image in decisions] for name, decisions in found.items()}
    first = next(iter(found))
    if other := [name for name in words if words[name] != words[first]]:
        raise ValueError(f"found has other images or words for {other[0]} than for {first}; they must be the same")
    table = [np.array(image, dtype=bool) for image in zip(*found.values(), strict=True) if len(image[0])]
    if not table:
        raise ValueError("found has no word; agreement needs at least one")
    return table


def _shares(
    table: Sequence[NDArray[np.bool_]], rng: np.random.Generator, resamples: int
) -> tuple[MetricResult, MetricResult]:
    """Return the shares of words and of images on which all readers decide the same."""
    equal = [(image == image[0]).all(axis=0) for image in table]
    agreed = np.array([image.sum() for image in equal], dtype=np.float64)
    words = np.array([image.size for image in equal], dtype=np.float64)
    whole = (agreed == words).astype(np.float64)
    return (
        ratio_result(agreed, words, rng, resamples=resamples),
        ratio_result(whole, np.ones_like(whole), rng, resamples=resamples),
    )


def _pair_agreement(table: Sequence[NDArray[np.bool_]], rng: np.random.Generator, resamples: int) -> PairAgreement:
    counts = np.array([[(a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()] for a, b in table], np.float64)
    words, images = _shares(table, rng, resamples)
    return PairAgreement(words, images, _coefficient(cohen_kappa, counts, table, rng, resamples))


def _alpha_result(table: Sequence[NDArray[np.bool_]], rng: np.random.Generator, resamples: int) -> MetricResult | None:
    readers = len(table[0])
    found = [image.sum(axis=0) for image in table]
    sums = [((k * (readers - k)).sum() / (readers - 1), k.sum(), (readers - k).sum()) for k in found]
    return _coefficient(krippendorff_alpha, np.array(sums, np.float64), table, rng, resamples)


def _coefficient(
    statistic: Callable[..., NDArray[np.float64]],
    columns: NDArray[np.float64],
    table: Sequence[NDArray[np.bool_]],
    rng: np.random.Generator,
    resamples: int,
) -> MetricResult | None:
    """Return a coefficient with its interval; None if all decisions are equal, where it is not defined."""
    decisions = np.concatenate([image.ravel() for image in table])
    if decisions.all() or not decisions.any():
        return None
    words = decisions.size // len(table[0])
    return bootstrap_result(statistic, [*columns.T], rng, n=words, resamples=resamples, most=None)
