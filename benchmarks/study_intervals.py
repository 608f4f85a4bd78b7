"""Simulate how often a rating study's 95 % intervals hold the true mean: ``python benchmarks/study_intervals.py``.

Studies are simulated whose raters and prompts are drawn from a population: a score is the sum of a mean, a rater's
leniency, a prompt's difficulty and noise, rounded to 1 to 5. The true mean is that of many such scores. The two-way
bootstrap of the study's report is compared with resampling prompts alone, and raters alone.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from datetime import date

import numpy as np
from markdown_table import table
from numpy.typing import NDArray

from vlad_lightning.studio.study_statistics import Ratings, mean_scores

_MEAN, _RATER, _PROMPT, _NOISE = 3.2, 0.6, 0.6, 0.7  # standard deviations, in points of the scale
_RESAMPLES = 500
_MANY = 4000

Scores = NDArray[np.int64]


def scores(raters: int, prompts: int, rng: np.random.Generator) -> Scores:
    """Return the scores of all raters for all prompts: (raters, prompts), from 1 to 5."""
    level = _MEAN + rng.normal(0, _RATER, (raters, 1)) + rng.normal(0, _PROMPT, (1, prompts))
    return np.clip(np.round(level + rng.normal(0, _NOISE, (raters, prompts))), 1, 5).astype(np.int64)


def two_way(drawn: Scores, rng: np.random.Generator) -> tuple[float, float]:
    """Return the report's interval of the mean."""
    rater, prompt = (index.reshape(-1) for index in np.indices(drawn.shape))
    ratings = Ratings(rater, prompt, np.zeros_like(rater), drawn.reshape(-1, 1))
    found = mean_scores(ratings, 1, rng, _RESAMPLES).means[0][0]
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def one_way(drawn: Scores, axis: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the interval of resampling one axis alone: 0 for raters, 1 for prompts."""
    means = drawn.mean(axis=1 - axis)
    resampled = means[rng.integers(len(means), size=(_RESAMPLES, len(means)))].mean(axis=1)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def covered(raters: int, prompts: int, studies: int, truth: float, rng: np.random.Generator) -> Iterator[list[bool]]:
    """Yield, for each simulated study, which of the three intervals hold the true mean."""
    for _ in range(studies):
        drawn = scores(raters, prompts, rng)
        intervals = (two_way(drawn, rng), one_way(drawn, 1, rng), one_way(drawn, 0, rng))
        yield [low <= truth <= high for low, high in intervals]


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    truth = float(scores(_MANY, _MANY, rng).mean())
    print(
        f"{date.today()}, Python {platform.python_version()}: {options.studies} studies each, true mean {truth:.3f}\n"
    )
    rows = []
    for raters, prompts in ((10, 10), (10, 40), (40, 10), (40, 40)):
        shares = np.mean(list(covered(raters, prompts, options.studies, truth, rng)), axis=0)
        rows.append((str(raters), str(prompts), *(f"{share:.3f}" for share in shares)))
    table(("raters", "prompts", "raters and prompts", "prompts alone", "raters alone"), rows)


if __name__ == "__main__":
    main()
