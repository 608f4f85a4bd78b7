"""The figures of scored images, with intervals from a bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.evaluation.row_file import Row, column_name
from vlad_lightning.evaluation.suite import Measure, PooledMeasure
from vlad_lightning.metrics.bootstrap import (
    Statistic,
    bootstrap_result,
    cluster_sums,
    clustered_result,
    f_of_ratios,
    ratio_of_sums,
    ratio_result,
)
from vlad_lightning.types import MetricResult

Rows = Mapping[str, Sequence[float]]
"""The sums of each prompt's images, by its key."""

_LOWER = ("fid", "kid", "fd_", "kd_")


@dataclass(frozen=True)
class Figure:
    """A number over many images, as what each adds to its sums.

    Attributes:
        columns: two arrays (n_images,) for a ratio, part and whole; four for an F: those of precision and recall; any
            number for another statistic.
        n: how many items it is over; None means the sum of the wholes.
        most: upper bound of an image's value, whose lower bound is 0; None if there is none.
        other: another statistic of the columns than a ratio or an F of sums; None if it is one of these.
    """

    columns: tuple[NDArray[np.float64], ...]
    n: int | None = None
    most: float | None = 1.0
    other: Statistic | None = None

    @property
    def statistic(self) -> Statistic:
        """How the figure follows from the columns."""
        return self.other or (ratio_of_sums if len(self.columns) == 2 else f_of_ratios)

    @property
    def known(self) -> bool:
        """Whether there is something that it is over."""
        return bool(len(self.columns[0])) if self.other else all(whole.sum() > 0 for whole in self.columns[1::2])

    def at(self, chosen: NDArray[np.bool_]) -> Figure:
        """Return the figure over some of the images."""
        whole = self.n is not None and not chosen.all()
        return replace(self, columns=tuple(column[chosen] for column in self.columns), n=None if whole else self.n)

    def by_prompt(self, keys: Sequence[str]) -> Rows:
        """Return the sums of each prompt, of which each image has its prompt's key."""
        sums = np.stack([cluster_sums(column, keys) for column in self.columns], axis=1)
        return dict(zip(sorted(set(keys)), sums.tolist(), strict=True))

    def value(self) -> float:
        """Return the figure."""
        return float(self.statistic(*self.columns, axis=-1))

    def result(self, keys: Sequence[str], rng: np.random.Generator, resamples: int = 2000) -> MetricResult:
        """Return the figure with its interval: prompts are resampled, all images of one together.

        Args:
            keys: the prompt's key of each image.
            rng: random generator of the resamples.
            resamples: number of resamples.
        """
        if self.other:
            n = len(keys) if self.n is None else self.n
            return clustered_result(self.other, self.columns, keys, rng, n, resamples, self.most)
        columns = [cluster_sums(column, keys) for column in self.columns]
        n = round(float(columns[1].sum())) if self.n is None else self.n
        if len(columns) == 2:
            return ratio_result(columns[0], columns[1], rng, n, resamples, self.most)
        return bootstrap_result(f_of_ratios, columns, rng, n, resamples, self.most)


def figures_of(measures: Sequence[Measure], rows: Sequence[Row]) -> dict[str, Figure]:
    """Return the figures of all measures, by name.

    The name is the share's, with the measure's before it. Shares ``precision`` and ``recall``, such as
    ``mario_precision``, without a ``mario_f...`` beside them, have a ``mario_f``: F of the two as MARIO-Eval has it.

    Args:
        measures: the measures of the suite.
        rows: rows of images that could be read.
    """
    found: dict[str, Figure] = {}
    others: dict[str, Figure] = {}
    for measure in measures if rows else ():
        table = {name: _column(rows, column_name(measure, name)) for name in measure.columns}
        shares = {column_name(measure, name): share for name, share in measure.shares(table).items()}
        found |= {name: Figure((share.part, share.whole), share.n, share.most) for name, share in shares.items()}
        if isinstance(measure, PooledMeasure):
            pooled = {column_name(measure, name): value for name, value in measure.pooled(table).items()}
            others |= {name: Figure(value.columns, other=value.statistic) for name, value in pooled.items()}
    for name in [name for name in found if name.endswith("precision")]:
        stem = name.removesuffix("precision")
        if f"{stem}recall" in found and not any(other in found for other in (f"{stem}f", f"{stem}f1")):
            found[f"{stem}f"] = Figure((*found[name].columns, *found[f"{stem}recall"].columns), len(rows))
    return {name: figure for name, figure in (others | found).items() if figure.known}


def results_of(
    figures: Mapping[str, Figure], keys: Sequence[str], seed: int, resamples: int = 2000
) -> dict[str, MetricResult]:
    """Return the results of figures over the same images; the same seed gives the same intervals.

    Args:
        figures: by name.
        keys: the prompt's key of each image.
        seed: seed of the resamples, the same for each figure.
        resamples: number of resamples.
    """
    return {
        name: figure.result(keys, np.random.default_rng(seed), resamples)
        for name, figure in figures.items()
        if figure.known
    }


def is_lower_better(figure: str) -> bool:
    """Return whether smaller values of a figure are better: distances and error rates."""
    return figure.startswith(_LOWER) or figure.endswith(("cer", "_overlap", "_extra"))


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows], dtype=np.float64)
