from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vlad_lightning.metrics.bootstrap import bootstrap_result, ratio_result, unvaried_interval
from vlad_lightning.metrics.ocr import mario_f
from vlad_lightning.types import MetricResult


def mean_result(values: NDArray[np.float64], rng: np.random.Generator) -> MetricResult:
    return ratio_result(values, np.ones_like(values), rng, most=None)


def test_the_interval_of_a_mean_equals_the_central_limit_theorems() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    result = mean_result(values, np.random.default_rng(1))
    half = 1.96 * values.std() / 20
    assert result.value == pytest.approx(values.mean())
    assert result.low == pytest.approx(values.mean() - half, abs=0.03)
    assert result.high == pytest.approx(values.mean() + half, abs=0.03)
    assert result.n == 400


def test_interval_of_a_few_skewed_values_is_that_of_the_percentiles() -> None:
    """One of four images: the resampled count is binomial, and its percentiles are no mirror images of each other."""
    values = np.array([0.0, 0.0, 0.0, 1.0])
    result = mean_result(values, np.random.default_rng(0))
    assert (result.low, result.high) == tuple(stats.binom.ppf([0.025, 0.975], 4, 0.25) / 4) == (0, 0.75)


def test_ratio_resamples_whole_images() -> None:
    """If an image's five words are all right or all wrong, the interval is that of images, not of words."""
    right = np.random.default_rng(0).random(100) < 0.5
    result = ratio_result(5.0 * right, np.full(100, 5.0), np.random.default_rng(1))
    assert result.value == pytest.approx(right.mean())
    assert result.n == 500
    assert result.high is not None
    assert result.low is not None
    assert result.high - result.low == pytest.approx(2 * 1.96 * 0.5 / 10, abs=0.03)


def test_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    result = ratio_result(np.array([1.0, 0.0]), np.array([1.0, 3.0]), np.random.default_rng(0))
    assert result.value == 0.25


def test_images_without_a_value_are_left_out() -> None:
    some = ratio_result(np.array([1.0, 2.0]), np.array([2.0, 2.0]), np.random.default_rng(0))
    more = ratio_result(np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, 2.0]), np.random.default_rng(0))
    assert some == more


def test_one_image_has_no_interval() -> None:
    result = mean_result(np.array([0.5]), np.random.default_rng(0))
    assert (result.value, result.low, result.high, result.n) == (0.5, None, None, 1)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_values_without_a_bound_have_no_interval(value: float) -> None:
    result = mean_result(np.full(10, value), np.random.default_rng(0))
    assert (result.value, result.low, result.high, result.n) == (value, None, None, 10)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, 2.0])
def test_equal_values_in_a_range_have_an_interval_for_unseen_images(value: float) -> None:
    """Of 40 images, a share of 0.0876 at most is otherwise: z^2 / (40 + z^2)."""
    result = ratio_result(np.full(40, value), np.ones(40), np.random.default_rng(0), most=2.0)
    assert result.low == pytest.approx(value * (1 - 0.0876), abs=1e-4)
    assert result.high == pytest.approx(value + 0.0876 * (2 - value), abs=1e-4)


@pytest.mark.parametrize("images", [2, 20, 500])
def test_the_interval_without_variance_is_scipys_wilson_at_the_ends(images: int) -> None:
    for ones in (0, images):
        wilson = stats.binomtest(ones, images).proportion_ci(0.95, method="wilson")
        assert unvaried_interval(ones / images, images) == pytest.approx(tuple(wilson), abs=1e-12)


@pytest.mark.parametrize("read", [0.0, 1.0])
def test_mario_f_of_nothing_or_all_has_an_interval(read: float) -> None:
    """Of 40 images whose words are all read, or none; MARIO-Eval's 1 is rounded, and differs from image to image."""
    words = np.arange(1.0, 41.0)
    each = read * words / (words + 1e-8)
    result = bootstrap_result(mario_f, (each, each), np.random.default_rng(0), n=40)
    assert result.value == pytest.approx(read, abs=1e-6)
    assert result.low == pytest.approx(read * (1 - 0.0876), abs=1e-4)
    assert result.high == pytest.approx(read + 0.0876 * (1 - read), abs=1e-4)


@pytest.mark.parametrize(("right", "low", "high"), [(0.0, 0.0, 0.1611), (1.0, 0.8389, 1.0)])
def test_share_of_nothing_or_all_has_wilsons_interval_over_the_images(right: float, low: float, high: float) -> None:
    """z^2 / (n + z^2) for n = 20 images and z = 1.96, however many words each has."""
    words = np.arange(1.0, 21.0)
    result = ratio_result(right * words, words, np.random.default_rng(0))
    assert result.value == right
    assert (result.low, result.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert result.n == 210
    empty = np.concatenate([words, np.zeros(30)])  # images without words do not count
    assert ratio_result(right * empty, empty, np.random.default_rng(0)) == result
    ratio = ratio_result(right * words, words, np.random.default_rng(0), most=None)
    assert (ratio.low, ratio.high) == (None, None)


def test_one_image_has_no_share_interval() -> None:
    result = ratio_result(np.array([3.0]), np.array([3.0]), np.random.default_rng(0))
    assert (result.value, result.low, result.high) == (1.0, None, None)


def test_the_same_generator_gives_the_same_interval() -> None:
    values = np.arange(20.0)
    first, again, other = (mean_result(values, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_averaging_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"denominators sum to 0\.0"):
        ratio_result(np.zeros(3), np.zeros(3), np.random.default_rng(0))


def test_resamples_in_blocks_are_those_of_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    right, asked = np.random.default_rng(3).integers(0, 5, size=(2, 70)).astype(np.float64)
    results = []
    for drawn in (1, 700, 10**9):  # one resample at a time, ten, all
        monkeypatch.setattr("vlad_lightning.metrics.bootstrap._DRAWN", drawn)
        results.append(ratio_result(right, asked, np.random.default_rng(5), resamples=200, most=None))
    assert results[0] == results[1] == results[2]


def test_memory_does_not_grow_with_the_resamples() -> None:
    values = np.random.default_rng(0).random(200_000)
    tracemalloc.start()
    try:
        ratio_result(values, np.ones_like(values), np.random.default_rng(1), resamples=40)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20  # 40 resamples at once need 60 MiB for their indices and 60 for each column
