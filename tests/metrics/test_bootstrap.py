from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vlad_lightning.metrics.bootstrap import mean_figure, ratio_figure


def test_mean_interval_is_that_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    figure = mean_figure(values, np.random.default_rng(1))
    half = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert figure.low == pytest.approx(values.mean() - half, abs=0.03)
    assert figure.high == pytest.approx(values.mean() + half, abs=0.03)
    assert figure.n == 400


def test_interval_of_a_few_skewed_values_is_that_of_the_percentiles() -> None:
    """One of four images: the resampled count is binomial, and its percentiles are no mirror images of each other."""
    values = np.array([0.0, 0.0, 0.0, 1.0])
    figure = mean_figure(values, np.random.default_rng(0))
    assert (figure.low, figure.high) == tuple(stats.binom.ppf([0.025, 0.975], 4, 0.25) / 4) == (0, 0.75)


def test_ratio_resamples_whole_images() -> None:
    """Five words an image that stand or fall together: the interval is that of the images, not of the words."""
    right = np.random.default_rng(0).random(100) < 0.5
    figure = ratio_figure(5.0 * right, np.full(100, 5.0), np.random.default_rng(1))
    assert figure.value == pytest.approx(right.mean())
    assert figure.n == 500
    assert figure.high is not None
    assert figure.low is not None
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * 0.5 / 10, abs=0.03)


def test_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    figure = ratio_figure(np.array([1.0, 0.0]), np.array([1.0, 3.0]), np.random.default_rng(0))
    assert figure.value == 0.25


def test_images_that_say_nothing_are_left_out() -> None:
    some = ratio_figure(np.array([1.0, 2.0]), np.array([2.0, 2.0]), np.random.default_rng(0))
    more = ratio_figure(np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, 2.0]), np.random.default_rng(0))
    assert some == more


def test_one_image_has_no_interval() -> None:
    figure = mean_figure(np.array([0.5]), np.random.default_rng(0))
    assert (figure.value, figure.low, figure.high, figure.n) == (0.5, None, None, 1)


def test_constant_values_have_an_interval_of_no_width() -> None:
    figure = mean_figure(np.ones(10), np.random.default_rng(0))
    assert (figure.low, figure.high) == (1.0, 1.0)


@pytest.mark.parametrize(("right", "low", "high"), [(0.0, 0.0, 0.1611), (1.0, 0.8389, 1.0)])
def test_share_of_nothing_or_all_has_wilsons_interval_over_the_images(right: float, low: float, high: float) -> None:
    """z^2 / (n + z^2) for n = 20 images and z = 1.96, however many words each has."""
    words = np.arange(1.0, 21.0)
    figure = ratio_figure(right * words, words, np.random.default_rng(0))
    assert figure.value == right
    assert (figure.low, figure.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert figure.n == 210
    empty = np.concatenate([words, np.zeros(30)])  # images without words say nothing
    assert ratio_figure(right * empty, empty, np.random.default_rng(0)) == figure
    ratio = ratio_figure(right * words, words, np.random.default_rng(0), bounded=False)
    assert (ratio.low, ratio.high) == (right, right)


def test_one_image_has_no_share_interval() -> None:
    figure = ratio_figure(np.array([3.0]), np.array([3.0]), np.random.default_rng(0))
    assert (figure.value, figure.low, figure.high) == (1.0, None, None)


def test_the_same_generator_gives_the_same_interval() -> None:
    values = np.arange(20.0)
    first, again, other = (mean_figure(values, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_nothing_to_average_is_an_error() -> None:
    with pytest.raises(ValueError, match="values is empty"):
        mean_figure(np.zeros(0), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"denominators sum to 0\.0"):
        ratio_figure(np.zeros(3), np.zeros(3), np.random.default_rng(0))
