from __future__ import annotations

from collections import Counter
from itertools import chain, permutations

import numpy as np
import pytest

from vlad_lightning.metrics.agreement import agreement, cohen_kappa, krippendorff_alpha, words_found
from vlad_lightning.metrics.ocr import ocr_row

FIRST = [[True, False], [True], [False, False, True], []]
SECOND = [[True, True], [True], [False, False, False], []]
THIRD = [[True, False], [False], [False, True, True], []]


def pairwise_alpha(decisions: np.ndarray) -> float:
    """Krippendorff's alpha by its definition: the coincidences of all ordered pairs of values, (readers, words)."""
    observed, values = 0.0, Counter(decisions.ravel().tolist())
    for unit in decisions.T:
        observed += sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1)
    total = decisions.size
    expected = sum(values[a] * values[b] for a, b in permutations(values, 2)) / (total - 1)
    return 1 - observed / expected


def test_kappa_of_the_textbooks_fifty_proposals() -> None:
    counts = [np.array(column, float) for column in ([12, 8], [5, 0], [3, 7], [10, 5])]  # of two images: 20, 5, 10, 15
    assert float(cohen_kappa(*counts)) == pytest.approx(0.4)


def test_alpha_of_krippendorffs_own_example() -> None:
    """Two observers, ten units ("Computing Krippendorff's alpha-reliability", 2011, section A)."""
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = {"a": [[bool(value)] for value in first], "b": [[bool(value)] for value in second]}
    alpha = agreement(found, np.random.default_rng(0), resamples=50).alpha
    assert alpha is not None
    assert alpha.value == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize("readers", [2, 3, 5])
def test_alpha_equals_that_of_all_pairs_of_values(readers: int) -> None:
    decisions = np.random.default_rng(readers).random((readers, 60)) < 0.7
    found = decisions.sum(axis=0).astype(float)
    alpha = krippendorff_alpha(found * (readers - found) / (readers - 1), found, readers - found)
    assert float(alpha) == pytest.approx(pairwise_alpha(decisions))


def test_shares_of_words_and_images_and_each_pair() -> None:
    result = agreement({"a": FIRST, "b": SECOND, "c": THIRD}, np.random.default_rng(0), resamples=100)
    assert (result.words.value, result.words.n) == (pytest.approx(2 / 6), 6)
    assert (result.images.value, result.images.n) == (0.0, 3)  # the image without a word does not count
    assert list(result.pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    pair = result.pairs["a", "b"]
    assert (pair.words.value, pair.images.value) == (pytest.approx(4 / 6), pytest.approx(1 / 3))
    assert pair.kappa is not None
    assert pair.kappa.value == pytest.approx((4 / 6 - 1 / 2) / (1 - 1 / 2))
    assert result.alpha is not None
    decisions = np.array([[*chain(*reader)] for reader in (FIRST, SECOND, THIRD)])
    assert result.alpha.value == pytest.approx(pairwise_alpha(decisions))


def test_an_interval_is_as_wide_as_images_of_equal_words_make_it() -> None:
    """Twenty words in each of fifty images, all alike or all unlike: the spread is fifty draws', not a thousand's."""
    rng = np.random.default_rng(0)
    base = [[bool(value)] * 20 for value in rng.random(50) < 0.5]
    other = [[not value for value in image] if i < 10 else image for i, image in enumerate(base)]
    words = agreement({"a": base, "b": other}, rng, resamples=1000).words
    half = 1.96 * (0.8 * 0.2 / 50) ** 0.5
    assert words.value == pytest.approx(0.8)
    assert words.low == pytest.approx(0.8 - half, abs=0.03)
    assert words.high == pytest.approx(0.8 + half, abs=0.03)


def test_equal_readers_agree_and_those_who_find_all_leave_nothing_to_chance() -> None:
    same = agreement({"a": FIRST, "b": FIRST}, np.random.default_rng(0), resamples=100)
    assert same.alpha is not None
    assert same.alpha.value == same.words.value == same.images.value == 1
    everything = [[True], [True, True]]
    full = agreement({"a": everything, "b": everything}, np.random.default_rng(0), resamples=100)
    assert full.alpha is full.pairs["a", "b"].kappa is None
    assert full.words.low == pytest.approx(1 - 3.84 / 5.84, abs=1e-3)  # Wilson's of two images


def test_the_same_seed_gives_the_same_intervals() -> None:
    found = {"a": FIRST, "b": SECOND}
    assert agreement(found, np.random.default_rng(3)) == agreement(found, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": FIRST}, "found has the readers a; agreement needs at least two"),
        ({"a": FIRST, "b": FIRST[:2]}, "other images or words for b than for a"),
        ({"a": [[]], "b": [[]]}, "found has no word"),
    ],
)
def test_what_cannot_be_compared_is_refused(found: dict[str, list[list[bool]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agreement(found, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["big SALE", "to day"], ["Sale", "today", "sale", "sale"]),
        (["CATDOG", "cat"], ["dog", "cat", "cat"]),
        ([], ["one", "two"]),
        (["don't"], ["DON’T", "..."]),  # noqa: RUF001
    ],
)
def test_words_found_are_those_that_the_accuracy_counts(lines: list[str], words: list[str]) -> None:
    found, row = words_found(lines, words), ocr_row(lines, words)
    assert (sum(found), len(found)) == (row["words_read"], row["wanted"])
