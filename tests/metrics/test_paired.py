from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from vlad_lightning.metrics.bootstrap import f_of_ratios
from vlad_lightning.metrics.paired import PerImage, holm, paired_difference


def per_image(parts: list[int], wholes: list[int] | None = None) -> PerImage:
    pairs = zip(parts, wholes or [1] * len(parts), strict=True)
    return {f"{i:03}": (part, whole) for i, (part, whole) in enumerate(pairs)}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_one_yes_or_no_per_image_is_mcnemars_test() -> None:
    """12 images only the second got right, 3 only the first, 25 both: exact McNemar by the binomial."""
    first, second = per_image([0] * 12 + [1] * 28), per_image([1] * 12 + [0] * 3 + [1] * 25)
    found = paired_difference(first, second, rng(), resamples=20000)
    assert found is not None
    assert found.value == pytest.approx(9 / 40)
    assert found.n == 40
    assert found.p == pytest.approx(stats.binomtest(3, 15).pvalue, abs=0.005)


def test_the_interval_equals_that_of_the_mean_difference() -> None:
    """For wholes of one the pooled difference is a mean of differences: scipy's bootstrap of it."""
    generators = np.random.default_rng(1)
    first, second = generators.integers(0, 2, 200), generators.integers(0, 2, 200)
    found = paired_difference(per_image(first.tolist()), per_image(second.tolist()), rng(), resamples=5000)
    assert found is not None
    expected = stats.bootstrap((second - first,), np.mean, n_resamples=5000, method="percentile", rng=rng())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.007)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.007)


def test_shares_are_pooled_over_images() -> None:
    first, second = per_image([1, 0, 0], [1, 3, 0]), per_image([1, 3, 0], [1, 3, 0])
    found = paired_difference(first, second, rng())
    assert found is not None
    assert found.value == pytest.approx(1 - 1 / 4)
    assert found.n == 2  # the third has no value


def test_pairing_detects_differences_hidden_by_the_spread_between_images() -> None:
    """Each image is a little better: unpaired intervals overlap widely, the paired one does not reach zero."""
    levels = np.random.default_rng(0).random(60)
    first = {str(i): (float(level), 1.0) for i, level in enumerate(levels)}
    second = {str(i): (float(level) + 0.02, 1.0) for i, level in enumerate(levels)}
    found = paired_difference(first, second, rng())
    assert found is not None
    assert found.low == pytest.approx(0.02)
    assert found.p == 1 / 2001  # no swap reaches it; the data are one more arrangement, so p is never 0
    assert stats.ttest_ind(levels, levels + 0.02).pvalue > 0.5


def test_equal_systems_do_not_differ() -> None:
    system = per_image([0, 1, 1, 0])
    found = paired_difference(system, system, rng())
    assert found is not None
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high) == (pytest.approx(-0.4899, abs=1e-4), pytest.approx(0.4899, abs=1e-4))


def test_a_system_that_is_right_everywhere_and_one_that_never_is_may_differ_by_less() -> None:
    """z^2 / (40 + z^2) = 0.0876 of further images at most could go the other way, by 2 each."""
    found = paired_difference(per_image([0] * 40), per_image([1] * 40), rng())
    assert found is not None
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(1 - 2 * 0.0876, abs=1e-4)


def test_equal_results_that_are_no_shares_have_no_interval() -> None:
    probe = {str(i): (1.5, 1.0) for i in range(9)}
    found = paired_difference(probe, probe, rng())
    assert found is not None
    assert (found.value, found.low, found.high) == (0, None, None)


def test_only_images_that_both_have_count() -> None:
    found = paired_difference(per_image([1, 1, 1]), per_image([0]), rng())
    assert found is not None
    assert (found.value, found.n, found.low) == (-1, 1, None)
    assert paired_difference({"a": (1, 1)}, {"b": (1, 1)}, rng()) is None
    assert paired_difference({"a": (0, 0)}, {"a": (1, 1)}, rng()) is None
    assert paired_difference({}, {}, rng()) is None


def rejected_by_holm(p_values: list[float], alpha: float) -> set[int]:
    """Return the tests that Holm's procedure rejects: step down while the next p is at most alpha / tests left."""
    rejected: set[int] = set()
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[index] > alpha / (len(p_values) - len(rejected)):
            break
        rejected.add(index)
    return rejected


def test_holms_corrected_values_are_the_levels_at_which_his_procedure_rejects() -> None:
    drawn = np.random.default_rng(0)
    for count in (1, 2, 7, 20):
        p_values = (drawn.random(count) ** 3).round(3).tolist()
        corrected = holm(p_values)
        for alpha in (0.0005, 0.01, 0.05, 0.2, 0.5):
            assert {i for i, p in enumerate(corrected) if p <= alpha} == rejected_by_holm(p_values, alpha)
    assert holm([]) == []


def test_an_f_is_compared_as_the_f_of_the_sums() -> None:
    """Its swaps and resamples are those of the share that it is if precision and recall are equal."""
    drawn = np.random.default_rng(0)
    first = {str(i): (float(drawn.integers(2)), 1.0) for i in range(40)}
    second = {str(i): (float(drawn.integers(2)), 1.0) for i in range(40)}
    doubled = [{key: (*row, *row) for key, row in rows.items()} for rows in (first, second)]
    share = paired_difference(first, second, rng())
    found = paired_difference(*doubled, rng(), statistic=f_of_ratios)
    assert share is not None
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((share.value, share.low, share.high), abs=1e-6)
    assert found.p == share.p


def test_swaps_go_on_until_the_p_value_is_known_or_small_enough() -> None:
    nothing, everything = per_image([0] * 40), per_image([1] * 40)
    found = paired_difference(nothing, everything, rng(), resamples=100, most_swaps=5000)
    assert found is not None
    assert found.p == pytest.approx(1 / 5001)
    first, second = per_image([0] * 12 + [1] * 28), per_image([1] * 12 + [0] * 3 + [1] * 25)
    rare = paired_difference(first, second, rng(), resamples=100, most_swaps=50_000)
    assert rare is not None
    assert rare.p == pytest.approx(stats.binomtest(3, 15).pvalue, rel=0.5)  # 50 swaps reached it
    common = per_image([0, 1] * 20), per_image([1, 0] * 20)
    usual = [paired_difference(*common, rng(), resamples=100, most_swaps=most) for most in (0, 50_000)]
    assert usual[0] == usual[1]


def test_swaps_in_blocks_are_those_of_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    first, second = (
        {str(i): [float(right), 1.0] for i, right in enumerate(rng.random(60) < share)} for share in (0.4, 0.6)
    )
    found = []
    for swaps in (1, 6000, 10**9):  # one at a time, a hundred, all
        monkeypatch.setattr("vlad_lightning.metrics.paired._SWAPS", swaps)
        found.append(paired_difference(first, second, np.random.default_rng(2), resamples=300))
    assert found[0] == found[1] == found[2]


def test_memory_does_not_grow_with_the_swaps() -> None:
    rng = np.random.default_rng(8)
    first, second = (
        {str(i): [float(right), 1.0] for i, right in enumerate(rng.random(60_000) < 0.5)} for _ in range(2)
    )
    tracemalloc.start()
    try:
        paired_difference(first, second, np.random.default_rng(2), resamples=200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20  # 200 swaps at once need 90 MiB as integers and 90 as floating-point numbers
