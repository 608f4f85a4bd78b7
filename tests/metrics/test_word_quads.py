from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.metrics.word_quads import words_of_line

LINE = np.array([[10, 20], [110, 30], [108, 50], [8, 40]], dtype=np.float64)  # falls to the right


def test_a_line_of_one_word_keeps_its_corners() -> None:
    ((word, corners),) = words_of_line(" SALE ", LINE)
    assert word == "SALE"
    np.testing.assert_allclose(corners, LINE)


def test_a_line_is_cut_at_its_spaces_along_its_edges() -> None:
    (first, left), (second, right) = words_of_line("SALE SALE", LINE)
    assert (first, second) == ("SALE", "SALE")
    np.testing.assert_allclose(left[[0, 3]], LINE[[0, 3]])
    np.testing.assert_allclose(right[[1, 2]], LINE[[1, 2]], atol=1e-9)
    np.testing.assert_allclose(left[1] - left[0], right[1] - right[0])  # equal words are equally wide
    assert 10 < right[0][0] - left[1][0] + 10 < 25  # the space between them is narrower than a word
    for corner in (left[1], right[0]):  # on the upper edge, 100 to the right and 10 down
        assert corner[1] - 20 == pytest.approx((corner[0] - 10) / 10)


def test_wide_words_get_wide_parts() -> None:
    (_, wide), (_, narrow) = words_of_line("WWW ill", LINE)
    assert np.linalg.norm(wide[1] - wide[0]) > 3 * np.linalg.norm(narrow[1] - narrow[0])


def test_a_tall_line_is_read_downwards() -> None:
    tall = np.array([[0, 0], [20, 0], [20, 200], [0, 200]], dtype=np.float64)
    (_, upper), (_, lower) = words_of_line("SALE SALE", tall)
    assert upper[:, 1].max() < lower[:, 1].min()
    assert sorted(upper[:, 0]) == [0, 0, 20, 20]


def test_the_engines_own_places_count_where_it_cuts_at_the_same_spaces() -> None:
    own = [("BIG", LINE + 1), ("SALE", LINE + 2)]
    found = words_of_line("BIG SALE", LINE, own)
    np.testing.assert_array_equal(found[1][1], LINE + 2)
    ((word, corners),) = words_of_line("BIGSALE", LINE, own)  # it cut at a gap inside a word
    assert word == "BIGSALE"
    np.testing.assert_allclose(corners, LINE)
