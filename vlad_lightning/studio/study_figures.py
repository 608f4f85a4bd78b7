"""From a study's answers to its figures: screening, then means, agreement and the ranking."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.studio.study_answers import Answer, Rater
from vlad_lightning.studio.study_folder import Study
from vlad_lightning.studio.study_screening import Limits, item_seconds, reasons
from vlad_lightning.studio.study_statistics import (
    Choices,
    MeanScores,
    Ranking,
    Ratings,
    agreement,
    mean_scores,
    ranking,
    units_of,
    wins,
)


@dataclass(frozen=True)
class People:
    """Who took part.

    Attributes:
        enrolled: number of raters with a link.
        withdrawn: number of raters who withdrew; their answers are deleted.
        answered: number of raters with at least one answer.
        done: number of raters who answered everything.
        excluded: reasons by the number of each excluded rater, counted from 1.
        counted: number of raters whose answers count.
        median_seconds: median time of an item, over the answers that count; None without any.
    """

    enrolled: int
    withdrawn: int
    answered: int
    done: int
    excluded: Mapping[int, list[str]]
    counted: int
    median_seconds: float | None


@dataclass(frozen=True)
class Figures:
    """All figures of a study.

    Attributes:
        people: who took part.
        scores: mean scores and differences; None without ratings.
        alphas: Krippendorff's alpha of each criterion, ordinal, over the images.
        ranking: the systems by the choices; None without comparisons.
        won: how often each system won against each other.
        choice_alpha: Krippendorff's alpha of the choices, nominal, over the pairs of images.
    """

    people: People
    scores: MeanScores | None
    alphas: list[float | None]
    ranking: Ranking | None
    won: list[list[int]]
    choice_alpha: float | None


def figures(
    study: Study, raters: Sequence[Rater], answers: Sequence[Answer], limits: Limits, resamples: int, seed: int
) -> Figures:
    """Compute the figures of a study.

    Args:
        study: the study.
        raters: its raters.
        answers: all answers, by rater and position.
        limits: the rules of exclusion.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples.

    Raises:
        ValueError: if no answer counts.
    """
    by_rater = {rater: list(given) for rater, given in itertools.groupby(answers, lambda answer: answer.rater)}
    excluded = {rater: why for rater, given in by_rater.items() if (why := reasons(given, study.checks, limits))}
    kept = [answer for rater, given in by_rater.items() if rater not in excluded for answer in given]
    ratings, choices = _ratings(study, kept), _choices(kept)
    if not len(ratings.rater) and not len(choices.rater):
        raise ValueError(f"STUDY has {len(answers)} answers, of which none counts; excluded raters: {len(excluded)}")
    rng = np.random.default_rng(seed)
    systems = len(study.systems)
    images = units_of(ratings.prompt, ratings.system)
    first, second = np.minimum(choices.winner, choices.loser), np.maximum(choices.winner, choices.loser)
    return Figures(
        people=_people(raters, by_rater, excluded),
        scores=mean_scores(ratings, systems, rng, resamples) if len(ratings.rater) else None,
        alphas=[agreement(images, column, "ordinal") for column in ratings.scores.T],
        ranking=ranking(choices, systems, rng, resamples) if len(choices.rater) else None,
        won=wins(choices, np.ones(len(choices.rater)), systems).astype(int).tolist(),
        choice_alpha=agreement(units_of(choices.prompt, first, second), choices.winner, "nominal"),
    )


def _ratings(study: Study, answers: Sequence[Answer]) -> Ratings:
    rows = [answer for answer in answers if answer.item.kind == "rate"]
    return Ratings(
        rater=_column([answer.rater for answer in rows]),
        prompt=_column([answer.item.number for answer in rows]),
        system=_column([answer.item.shown[0] for answer in rows]),
        scores=_column([list(answer.value) for answer in rows]).reshape(len(rows), len(study.criteria)),
    )


def _choices(answers: Sequence[Answer]) -> Choices:
    rows = [answer for answer in answers if answer.item.kind == "compare"]
    return Choices(
        rater=_column([answer.rater for answer in rows]),
        prompt=_column([answer.item.number for answer in rows]),
        winner=_column([answer.item.shown[answer.value[0]] for answer in rows]),
        loser=_column([answer.item.shown[1 - answer.value[0]] for answer in rows]),
    )


def _column(values: Sequence[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def _people(
    raters: Sequence[Rater], by_rater: Mapping[int, Sequence[Answer]], excluded: Mapping[int, list[str]]
) -> People:
    seconds = [s for rater, given in by_rater.items() if rater not in excluded for s in item_seconds(given)]
    return People(
        enrolled=len(raters),
        withdrawn=sum(rater.withdrawn for rater in raters),
        answered=len(by_rater),
        done=sum(rater.answered == rater.total for rater in raters),
        excluded={rater + 1: why for rater, why in excluded.items()},
        counted=len(by_rater) - len(excluded),
        median_seconds=round(float(np.median(seconds)), 2) if seconds else None,
    )
