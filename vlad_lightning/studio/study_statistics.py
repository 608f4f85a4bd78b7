"""The figures of a rating study: means, agreement and a ranking, with intervals over raters and prompts.

Raters and prompts are both samples: another group of people, or other prompts, would give other figures. The intervals
are therefore of a two-way bootstrap (Owen 2007, "The pigeonhole bootstrap"): each resample draws raters and prompts
anew, and an answer counts as often as its rater times as often as its prompt was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import choix
import krippendorff
import numpy as np
from numpy.typing import NDArray

from vlad_lightning.metrics.bootstrap import NO_WIDTH, unvaried_interval
from vlad_lightning.types import MetricResult

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

PRIOR_WINS = 0.5
"""Wins added to each side of each compared pair, so that a system that always wins has a finite strength."""


@dataclass(frozen=True)
class Ratings:
    """Scores of single images.

    Attributes:
        rater: (N,) number of the rater.
        prompt: (N,) number of the prompt.
        system: (N,) number of the system.
        scores: (N, C) score for each criterion, from 1 to 5.
    """

    rater: Whole
    prompt: Whole
    system: Whole
    scores: Whole


@dataclass(frozen=True)
class Choices:
    """Choices between two images.

    Attributes:
        rater: (N,) number of the rater.
        prompt: (N,) number of the prompt.
        winner: (N,) system whose image was chosen.
        loser: (N,) system whose image was not.
    """

    rater: Whole
    prompt: Whole
    winner: Whole
    loser: Whole


def two_way_weights(rater: Whole, prompt: Whole, rng: np.random.Generator, resamples: int) -> Iterator[Real]:
    """Yield how often each answer counts, for each resample.

    Args:
        rater: (N,) number of each answer's rater.
        prompt: (N,) number of each answer's prompt.
        rng: random generator of the resamples.
        resamples: number of resamples.

    Yields:
        (N,) whole numbers, whose mean over many resamples is 1.
    """
    raters, by_rater = np.unique(rater, return_inverse=True)
    prompts, by_prompt = np.unique(prompt, return_inverse=True)
    for _ in range(resamples):
        drawn_raters = np.bincount(rng.integers(len(raters), size=len(raters)), minlength=len(raters))
        drawn_prompts = np.bincount(rng.integers(len(prompts), size=len(prompts)), minlength=len(prompts))
        yield (drawn_raters[by_rater] * drawn_prompts[by_prompt]).astype(np.float64)


def system_means(ratings: Ratings, weights: Real, systems: int) -> Real:
    """Return the mean scores (S, C) of each system; NaN for a system without weight."""
    counts = np.bincount(ratings.system, weights, systems)
    sums = [np.bincount(ratings.system, weights * column, systems) for column in ratings.scores.T]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(sums, axis=1) / counts[:, None]


@dataclass(frozen=True)
class MeanScores:
    """Mean scores, and their differences between systems.

    Attributes:
        means: for each system, a result for each criterion.
        differences: for each pair of systems (first, second), the first's mean minus the second's, for each criterion.
    """

    means: list[list[MetricResult]]
    differences: dict[tuple[int, int], list[MetricResult]]


def mean_scores(ratings: Ratings, systems: int, rng: np.random.Generator, resamples: int) -> MeanScores:
    """Compute the mean score of each system for each criterion, and all differences, with 95 % intervals.

    Both are from the same resamples, so a difference has the interval of a paired comparison. If all scores of a system
    are equal, its interval is :func:`~vlad_lightning.metrics.bootstrap.unvaried_interval` over the raters or the
    prompts, whichever are fewer.

    Args:
        ratings: the ratings.
        systems: S, the number of systems.
        rng: random generator of the resamples.
        resamples: number of resamples.
    """
    value = system_means(ratings, np.ones(len(ratings.rater)), systems)
    drawn = np.stack(
        [
            system_means(ratings, weights, systems)
            for weights in two_way_weights(ratings.rater, ratings.prompt, rng, resamples)
        ]
    )
    counts = np.bincount(ratings.system, minlength=systems).tolist()
    fewest = [_fewest(ratings.rater[at], ratings.prompt[at]) for at in (ratings.system == s for s in range(systems))]
    criteria = range(ratings.scores.shape[1])
    means = [
        [result(value[s, c], drawn[:, s, c], counts[s], fewest[s], (1.0, 5.0)) for c in criteria]
        for s in range(systems)
    ]
    differences = {
        (first, second): [
            result(
                value[first, c] - value[second, c],
                drawn[:, first, c] - drawn[:, second, c],
                counts[first] + counts[second],
                min(fewest[first], fewest[second]),
            )
            for c in criteria
        ]
        for first in range(systems)
        for second in range(first + 1, systems)
    }
    return MeanScores(means, differences)


def _fewest(rater: Whole, prompt: Whole) -> int:
    """Return the number of raters or of prompts, whichever is smaller."""
    return min(len(np.unique(rater)), len(np.unique(prompt)))


def result(value: float, drawn: Real, n: int, fewest: int, ends: tuple[float, float] | None = None) -> MetricResult:
    """Return a figure with its 95 % percentile interval.

    Args:
        value: the figure.
        drawn: (B,) the figure of each resample; NaN where a resample has none.
        n: number of answers behind it.
        fewest: number of raters or of prompts, whichever is smaller; fewer than two have no spread.
        ends: the least and the largest value that an answer can have; None if there are none.
    """
    if not n or not np.isfinite(value):
        return MetricResult(float("nan"), n=n)
    if fewest < 2:
        return MetricResult(float(value), n=n)
    low, high = map(float, np.nanpercentile(drawn, (2.5, 97.5)))
    if high - low <= NO_WIDTH:
        if ends is None:
            return MetricResult(float(value), n=n)
        low, high = unvaried_interval(float(value), fewest, most=ends[1], least=ends[0])
    return MetricResult(float(value), low, high, n)


def agreement(unit: Whole, value: Whole, level: Literal["nominal", "ordinal"]) -> float | None:
    """Compute Krippendorff's alpha: 1 is perfect agreement, 0 what chance gives.

    Args:
        unit: (N,) number of what was judged, such as an image; units with a single value do not count.
        value: (N,) the judgements.
        level: ``ordinal`` for scores, ``nominal`` for choices.

    Returns:
        Alpha; None if nothing was judged twice, or all judgements of it are equal: chance then agrees perfectly too.
    """
    if not len(unit):
        return None
    units, by_unit = np.unique(unit, return_inverse=True)
    values, by_value = np.unique(value, return_inverse=True)
    counts = np.zeros((len(units), len(values)), np.int64)
    np.add.at(counts, (by_unit, by_value), 1)
    counts = counts[counts.sum(axis=1) >= 2]
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, value_domain=values, level_of_measurement=level))


def wins(choices: Choices, weights: Real, systems: int) -> Real:
    """Return how often each system (row) won against each other (column): (S, S)."""
    counts = np.bincount(choices.winner * systems + choices.loser, weights, systems**2)
    return counts.astype(np.float64).reshape(systems, systems)


def bradley_terry(won: Real, prior: float = PRIOR_WINS) -> Real:
    """Return the strengths of the Bradley-Terry model: i is chosen over j with the odds exp(strength_i - strength_j).

    Args:
        won: (S, S) how often the row's system won against the column's.
        prior: wins added to both sides of every pair that was compared.

    Returns:
        (S,) log strengths, whose mean is 0. Systems that no chain of comparisons joins are tied to each other by the
        prior on all pairs.
    """
    compared = (won + won.T) > 0
    np.fill_diagonal(compared, False)
    if not _joined(compared):
        compared = ~np.eye(len(won), dtype=bool)
    return np.asarray(choix.ilsr_pairwise_dense(won + prior * compared, max_iter=1000))


def _joined(compared: NDArray[np.bool_]) -> bool:
    reached = np.zeros(len(compared), dtype=bool)
    reached[0] = True
    for _ in range(len(compared)):
        reached |= compared[reached].any(axis=0)
    return bool(reached.all())


@dataclass(frozen=True)
class Ranking:
    """The systems by the choices between them.

    Attributes:
        strengths: of each system, in logits, 0 on average.
        shares: of each system, the share of its comparisons that it won.
    """

    strengths: list[MetricResult]
    shares: list[MetricResult]


def ranking(choices: Choices, systems: int, rng: np.random.Generator, resamples: int) -> Ranking:
    """Compute the strengths and the shares of won comparisons, with 95 % intervals.

    A system that won all or none of its comparisons has a strength without interval: the answers bound it on one side.

    Args:
        choices: the choices.
        systems: S, the number of systems.
        rng: random generator of the resamples.
        resamples: number of resamples.
    """
    ones = np.ones(len(choices.rater))
    drawn = [
        wins(choices, weights, systems)
        for weights in two_way_weights(choices.rater, choices.prompt, rng, resamples)
        if weights.any()
    ]
    won = wins(choices, ones, systems)
    compared = (won.sum(axis=0) + won.sum(axis=1)).astype(int).tolist()
    fewest = _fewest(choices.rater, choices.prompt)

    def results(figure: Callable[[Real], Real], ends: tuple[float, float] | None) -> list[MetricResult]:
        value, each = figure(won), np.stack([figure(matrix) for matrix in drawn])
        return [result(value[s], each[:, s], compared[s], fewest, ends) for s in range(systems)]

    shares = results(_won_share, (0.0, 1.0))
    strengths = [
        strength if 0 < share.value < 1 else MetricResult(strength.value, n=strength.n)
        for strength, share in zip(results(bradley_terry, None), shares, strict=True)
    ]
    return Ranking(strengths, shares)


def _won_share(won: Real) -> Real:
    with np.errstate(invalid="ignore", divide="ignore"):
        return won.sum(axis=1) / (won.sum(axis=0) + won.sum(axis=1))


def units_of(*columns: Sequence[int] | Whole) -> Whole:
    """Return one number for each different row of the columns."""
    return np.asarray(np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1]).reshape(-1)
