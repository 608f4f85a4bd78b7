"""Comparisons of scored systems on the same prompts: which differences hold, and whether readers agree."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.evaluation.figures import is_lower_better
from vlad_lightning.evaluation.scored_system import ScoredSystem
from vlad_lightning.metrics.agreement import agreement, words_found
from vlad_lightning.metrics.paired import Difference, holm, paired_difference
from vlad_lightning.types import MetricResult

ALPHA = 0.05
"""The level at which a difference holds, after the correction for the number of tests of a reader."""

_TIMES = 5
"""The smallest p-value that swaps can give is so many times below the level of the strictest of all tests."""

PREFERRED = ("mario_f", "word_accuracy", "accuracy")
"""Figures that systems are ranked by unless another is named; without them, the first one."""


@dataclass(frozen=True)
class PairResult:
    """A figure of two systems.

    Attributes:
        reader: the reader.
        figure: the figure's name.
        first: name of the first system.
        second: name of the second system.
        difference: the second's figure minus the first's, with interval and p-value over prompts.
        corrected: the p-value after Holm's correction over the tests of the reader; None if there are so few prompts
            that no difference could be significant. Such figures are not part of the correction (Tarone 1990).
    """

    reader: str
    figure: str
    first: str
    second: str
    difference: Difference
    corrected: float | None

    @property
    def holds(self) -> bool:
        """Whether the difference holds at :data:`ALPHA`."""
        return self.corrected is not None and self.corrected <= ALPHA


@dataclass(frozen=True)
class ReaderAgreement:
    """Two readers of the images of a system.

    Attributes:
        system: the system.
        first: name of the first reader.
        second: name of the second reader.
        words: share of the wanted words that both find or both miss.
        kappa: Cohen's kappa of these decisions; None if both find all words, or both none.
    """

    system: str
    first: str
    second: str
    words: MetricResult
    kappa: MetricResult | None


@dataclass(frozen=True)
class RankAgreement:
    """The order of the systems according to two readers.

    Attributes:
        first: name of the first reader.
        second: name of the second reader.
        orders: the systems' names, best first, by each of the two.
        tau: Kendall's tau-b of the two orders, with its interval over resamples of the prompts.
    """

    first: str
    second: str
    orders: tuple[tuple[str, ...], tuple[str, ...]]
    tau: MetricResult


def shared_readers(systems: Sequence[ScoredSystem]) -> list[str]:
    """Return the readers that all systems have, in the first one's order."""
    return [name for name in systems[0].readers if all(name in system.readers for system in systems)]


def shared_figures(systems: Sequence[ScoredSystem], reader: str) -> list[str]:
    """Return the figures that all systems have from a reader, in the first one's order."""
    names = systems[0].figures[reader].figures
    return [name for name in names if all(name in system.figures[reader].figures for system in systems)]


def main_figure(systems: Sequence[ScoredSystem], asked: str | None = None) -> str:
    """Return the figure that systems are ranked by.

    Raises:
        ValueError: if the one that is asked for is not there, or there is none.
    """
    readers = shared_readers(systems)
    names = shared_figures(systems, readers[0])
    there = [name for name in names if all(name in shared_figures(systems, reader) for reader in readers)]
    if asked is not None and asked not in there:
        raise ValueError(f"--figure is {asked!r}; allowed are {', '.join(there)}")
    if not there:
        raise ValueError("the systems have no figure in common")
    return asked or next((name for name in PREFERRED if name in there), there[0])


def compare_systems(systems: Sequence[ScoredSystem], seed: int = 0, resamples: int = 5000) -> list[PairResult]:
    """Compare each pair of systems in each figure by prompt, for each reader.

    Args:
        systems: systems that were scored on the same prompts.
        seed: seed of resamples and swaps, the same for each test.
        resamples: number of resamples, and the least of swaps. Among many tests, those that few swaps reach get so many
            that a difference can still hold after the correction.
    """
    results = []
    for reader in shared_readers(systems):
        pairs = list(combinations(systems, 2))
        asked = [(*pair, name) for pair in pairs for name in shared_figures(pair, reader)]
        most = math.ceil(_TIMES * len(asked) / ALPHA)
        tests = [
            (first, second, name, _paired(first, second, reader, name, seed, resamples, most))
            for first, second, name in asked
        ]
        found = [(first, second, name, difference) for first, second, name, difference in tests if difference]
        corrected = iter(holm([difference.p for *_, difference in found if _testable(difference)]))
        results += [
            PairResult(
                reader, name, first.name, second.name, difference, next(corrected) if _testable(difference) else None
            )
            for first, second, name, difference in found
        ]
    return results


def _testable(difference: Difference) -> bool:
    """Return whether the swaps of so many prompts can give a p-value at the level: 2 of 2^n are the most extreme."""
    return 2.0 ** (1 - difference.n) <= ALPHA


def _paired(
    first: ScoredSystem, second: ScoredSystem, reader: str, name: str, seed: int, resamples: int, most_swaps: int
) -> Difference | None:
    rows = [system.figures[reader].by_prompt(name) for system in (first, second)]
    figure = first.figures[reader].figures[name]
    return paired_difference(rows[0], rows[1], np.random.default_rng(seed), resamples, figure.statistic, most_swaps)


def reader_agreements(systems: Sequence[ScoredSystem], seed: int = 0) -> list[ReaderAgreement]:
    """Compare the readers two by two: which of the wanted words do they find? Intervals are over prompts.

    Images that a reader could not read do not count; systems without a wanted word have no entry.

    Args:
        systems: the systems.
        seed: seed of the intervals.
    """
    found = []
    for system in systems:
        decisions = _decisions(system, shared_readers(systems))
        if len(decisions) > 1 and any(map(any, zip(*decisions.values(), strict=True))):
            pairs = agreement(decisions, np.random.default_rng(seed)).pairs
            found += [ReaderAgreement(system.name, *names, pair.words, pair.kappa) for names, pair in pairs.items()]
    return found


def _decisions(system: ScoredSystem, readers: Sequence[str]) -> dict[str, list[list[bool]]]:
    """Return for each reader and prompt whether the words of its images were found, one image after the other."""
    rows = {reader: {(r["key"], r["number"]): r for r in system.rows(reader) if not r["problem"]} for reader in readers}
    images = [image for image in rows[readers[0]] if all(image in known for known in rows.values())]
    found: dict[str, dict[str, list[bool]]] = {reader: {} for reader in readers}
    for image in images:
        words = system.prompts[image[0]]["words"]
        for reader in readers:
            lines = json.loads(rows[reader][image]["lines"])
            found[reader].setdefault(image[0], []).extend(words_found(lines, words))
    return {reader: list(by_prompt.values()) for reader, by_prompt in found.items()}


def rank_agreements(
    systems: Sequence[ScoredSystem], figure: str, seed: int = 0, resamples: int = 2000
) -> list[RankAgreement]:
    """Compare the order of the systems by each two readers; none for a single system.

    Args:
        systems: the systems.
        figure: name of the figure that they are ordered by.
        seed: seed of the resamples of prompts.
        resamples: number of resamples.
    """
    readers = shared_readers(systems)
    if len(systems) < 2 or len(readers) < 2:
        return []
    rows = {(reader, s.name): s.figures[reader].by_prompt(figure) for reader in readers for s in systems}
    keys = sorted(set.intersection(*(set(by_prompt) for by_prompt in rows.values())))
    sums = {name: np.array([by_prompt[key] for key in keys]) for name, by_prompt in rows.items()}
    rng = np.random.default_rng(seed)
    counts = np.vstack([np.ones(len(keys)), rng.multinomial(len(keys), np.full(len(keys), 1 / len(keys)), resamples)])
    statistic = systems[0].figures[readers[0]].figures[figure].statistic
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {name: statistic(*((counts @ s)[:, i, None] for i in range(s.shape[1]))) for name, s in sums.items()}
    sign, names = (-1 if is_lower_better(figure) else 1), [system.name for system in systems]
    by_reader = {reader: sign * np.stack([values[reader, name] for name in names], axis=1) for reader in readers}
    return [
        RankAgreement(
            first,
            second,
            (_order(names, by_reader[first][0]), _order(names, by_reader[second][0])),
            _tau(by_reader[first], by_reader[second], len(keys)),
        )
        for first, second in combinations(readers, 2)
    ]


def _order(names: Sequence[str], values: NDArray[np.float64]) -> tuple[str, ...]:
    return tuple(names[i] for i in np.argsort(-values, kind="stable"))


def _tau(first: NDArray[np.float64], second: NDArray[np.float64], prompts: int) -> MetricResult:
    """Return the tau of the first row, with the percentiles of the others: (1 + resamples, systems) each."""
    taus = np.array([stats.kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)])
    drawn = taus[1:][np.isfinite(taus[1:])]  # it is not defined where all systems are equal
    if not len(drawn):
        return MetricResult(float(taus[0]), n=prompts)
    low, high = map(float, np.percentile(drawn, (2.5, 97.5)))
    return MetricResult(float(taus[0]), low, high, prompts)
