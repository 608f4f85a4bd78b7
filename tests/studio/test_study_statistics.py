from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.optimize import minimize

from vlad_lightning.metrics.bootstrap import unvaried_interval
from vlad_lightning.studio.study_statistics import (
    Choices,
    Ratings,
    agreement,
    bradley_terry,
    mean_scores,
    ranking,
    two_way_weights,
)


def crossed(scores: np.ndarray) -> Ratings:
    """Return ratings of all prompts and systems by all raters: (raters, prompts, systems)."""
    rater, prompt, system = (index.reshape(-1) for index in np.indices(scores.shape))
    return Ratings(rater, prompt, system, scores.reshape(-1, 1))


def test_the_interval_has_the_width_of_the_closed_form() -> None:
    """All raters by all prompts: the bootstrap's variance is Va / R + Vb / P + Ve / RP, of raters, prompts and rest."""
    rng = np.random.default_rng(1)
    raters, prompts = 15, 12
    levels = (
        3 + rng.normal(0, 0.9, (raters, 1)) + rng.normal(0, 0.6, (1, prompts)) + rng.normal(0, 0.7, (raters, prompts))
    )
    scores = np.clip(np.round(levels), 1, 5).astype(np.int64)
    rows, columns = scores.mean(1, keepdims=True), scores.mean(0, keepdims=True)
    rest = scores - rows - columns + scores.mean()
    spread = math.sqrt(rows.var() / raters + columns.var() / prompts + rest.var() / (raters * prompts))
    found = mean_scores(crossed(scores[..., None]), 1, np.random.default_rng(0), 4000).means[0][0]
    assert found.value == pytest.approx(scores.mean())
    assert found.n == raters * prompts
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(spread, rel=0.08)
    one_way = scores.std() / math.sqrt(scores.size)  # what a bootstrap of single answers would give
    assert found.high - found.low > 1.5 * (2 * 1.96 * one_way)


def test_each_answer_counts_once_on_average() -> None:
    rater, prompt = np.array([0, 0, 1, 7]), np.array([3, 4, 3, 9])
    drawn = np.stack(list(two_way_weights(rater, prompt, np.random.default_rng(0), 4000)))
    assert drawn.mean(axis=0) == pytest.approx(1, abs=0.1)
    assert set(np.unique(drawn)) <= {float(a * b) for a in range(4) for b in range(4)}


def test_differences_are_of_the_same_raters_and_prompts() -> None:
    scores = np.random.default_rng(0).integers(1, 5, (8, 9))
    found = mean_scores(crossed(np.stack([scores, scores + 1], axis=2)), 2, np.random.default_rng(0), 300)
    difference = found.differences[0, 1][0]
    assert difference.value == pytest.approx(-1)
    assert difference.low is None  # the same in every resample
    low, high = found.means[0][0].low, found.means[0][0].high
    assert low is not None
    assert high is not None
    assert high - low > 0.3


def test_equal_scores_and_systems_without_scores() -> None:
    ratings = crossed(np.full((6, 4, 1), 5))
    found = mean_scores(ratings, 2, np.random.default_rng(0), 200)
    top, none = found.means[0][0], found.means[1][0]
    assert (top.low, top.high) == pytest.approx(unvaried_interval(5, 4, most=5, least=1))
    assert math.isnan(none.value)
    assert none.n == 0
    assert math.isnan(found.differences[0, 1][0].value)


def reference_alpha(rows: list[list[int | None]], ordinal: bool) -> float:
    """Krippendorff's alpha by its definition: disagreement of pairs in a unit over that of all pairs of values."""
    units = [[value for value in unit if value is not None] for unit in zip(*rows, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    count = {value: values.count(value) for value in set(values)}

    def distance(a: int, b: int) -> float:
        if not ordinal:
            return float(a != b)
        a, b = min(a, b), max(a, b)
        return float(sum(n for value, n in count.items() if a <= value <= b) - (count[a] + count[b]) / 2) ** 2

    observed = sum(sum(distance(a, b) for a, b in product(unit, unit)) / (len(unit) - 1) for unit in units)
    expected = sum(distance(a, b) for a, b in product(values, values)) / (len(values) - 1)
    return 1 - observed / expected


PUBLISHED: list[list[int | None]] = [  # Krippendorff (2011), four observers, twelve units
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def test_alpha_is_the_published_one_and_that_of_the_definition() -> None:
    told = [(unit, value) for row in PUBLISHED for unit, value in enumerate(row) if value is not None]
    units, values = (np.array(column) for column in zip(*told, strict=True))
    ordinal, nominal = agreement(units, values, "ordinal"), agreement(units, values, "nominal")
    assert ordinal == pytest.approx(0.815, abs=5e-4)
    assert nominal == pytest.approx(0.743, abs=5e-4)
    assert ordinal == pytest.approx(reference_alpha(PUBLISHED, ordinal=True))
    assert nominal == pytest.approx(reference_alpha(PUBLISHED, ordinal=False))


def test_alpha_by_hand() -> None:
    units = np.array([0, 0, 1, 1])
    assert agreement(units, np.array([1, 1, 2, 2]), "nominal") == pytest.approx(1)
    assert agreement(units, np.array([1, 1, 1, 2]), "nominal") == pytest.approx(0)  # 2/4 observed, 2*3*1/12 by chance
    assert agreement(units, np.array([3, 3, 3, 3]), "nominal") is None
    assert agreement(np.array([0, 1, 2]), np.array([1, 2, 3]), "ordinal") is None


def test_strengths_of_two_systems_are_the_log_odds() -> None:
    strengths = bradley_terry(np.array([[0.0, 30.0], [10.0, 0.0]]))
    assert strengths[0] - strengths[1] == pytest.approx(math.log(30.5 / 10.5))
    assert strengths.sum() == pytest.approx(0)


def test_strengths_are_recovered_from_expected_wins() -> None:
    true = np.array([0.8, 0.1, -0.9])
    odds = 1 / (1 + np.exp(true[None] - true[:, None]))
    counts = np.array([[0, 40, 25], [40, 0, 60], [25, 60, 0]])
    assert bradley_terry(counts * odds, prior=0) == pytest.approx(true, abs=1e-6)


def test_strengths_maximise_the_likelihood_with_the_prior() -> None:
    won = np.array([[0, 7, 3, 0], [2, 0, 9, 0], [5, 1, 0, 4], [0, 0, 0, 0]], dtype=float)  # the last never won
    compared = (won + won.T) > 0

    def loss(free: np.ndarray) -> float:
        strength = np.concatenate([free, [0.0]])
        pairs = [(i, j) for i, j in combinations(range(4), 2) if compared[i, j]]
        terms = [
            (won[i, j] + 0.5) * np.logaddexp(0, strength[j] - strength[i])
            + (won[j, i] + 0.5) * np.logaddexp(0, strength[i] - strength[j])
            for i, j in pairs
        ]
        return float(sum(terms))

    best = np.concatenate([minimize(loss, np.zeros(3), tol=1e-10).x, [0.0]])
    assert bradley_terry(won) == pytest.approx(best - best.mean(), abs=1e-4)


def test_strengths_are_finite_where_comparisons_join_nothing() -> None:
    won = np.zeros((4, 4))
    won[0, 1] = won[2, 3] = 5
    strengths = bradley_terry(won)
    assert np.isfinite(strengths).all()
    assert strengths[0] > strengths[1]
    assert strengths[2] > strengths[3]


def test_a_system_that_always_wins_has_a_bounded_share_and_an_unbounded_strength() -> None:
    rater, prompt = (index.reshape(-1) for index in np.indices((5, 6)))
    always = Choices(rater, prompt, np.zeros_like(rater), np.ones_like(rater))
    found = ranking(always, 2, np.random.default_rng(0), 100)
    assert found.strengths[0].value > found.strengths[1].value
    assert found.strengths[0].low is None
    share = found.shares[0]
    assert (share.low, share.high) == pytest.approx(unvaried_interval(1, 5, most=1, least=0))
    sometimes = Choices(rater, prompt, (prompt == 0).astype(int), (prompt != 0).astype(int))
    found = ranking(sometimes, 2, np.random.default_rng(0), 400)
    strength = found.strengths[0]
    assert strength.value == pytest.approx(math.log(25.5 / 5.5) / 2)
    assert strength.low is not None
    assert strength.low < strength.value
    assert found.shares[0].value == pytest.approx(25 / 30)
