from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlad_lightning.studio.study_design import Item, Kind, compared_pair, pairs_of, rated_system, session

systems_rounds_rater = st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(0, 200))


@given(systems_rounds_rater)
@settings(deadline=None)
def test_a_rater_rates_every_system_equally_often(drawn: tuple[int, int, int]) -> None:
    systems, rounds, rater = drawn
    seen = Counter(rated_system(rater, prompt, systems) for prompt in range(rounds * systems))
    assert seen == dict.fromkeys(range(systems), rounds)


@given(systems_rounds_rater)
@settings(deadline=None)
def test_raters_in_a_row_rate_every_image_once(drawn: tuple[int, int, int]) -> None:
    systems, prompt, first = drawn
    assert {rated_system(first + r, prompt, systems) for r in range(systems)} == set(range(systems))


@given(systems_rounds_rater)
@settings(deadline=None)
def test_a_rater_compares_every_pair_equally_often_with_the_sides_swapped(drawn: tuple[int, int, int]) -> None:
    systems, rounds, rater = drawn
    pairs = pairs_of(systems)
    seen = [compared_pair(rater, prompt, systems) for prompt in range(2 * rounds * pairs)]
    assert Counter(seen) == {
        pair: rounds for low, high in combinations(range(systems), 2) for pair in ((low, high), (high, low))
    }


@given(systems_rounds_rater)
@settings(deadline=None)
def test_raters_in_a_row_compare_every_pair_of_images_in_both_orders(drawn: tuple[int, int, int]) -> None:
    systems, prompt, first = drawn
    seen = Counter(compared_pair(first + r, prompt, systems) for r in range(2 * pairs_of(systems)))
    assert len(seen) == systems * (systems - 1)
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("systems", range(2, 9))
def test_within_a_round_no_system_stands_much_more_often_on_one_side(systems: int) -> None:
    left = Counter(compared_pair(0, prompt, systems)[0] for prompt in range(pairs_of(systems)))
    assert max(left[system] for system in range(systems)) - min(left[system] for system in range(systems)) <= 1


@given(st.integers(0, 50), st.integers(2, 4), st.integers(0, 3), st.integers(0, 2), st.integers(0, 6))
@settings(deadline=None)
def test_a_session_asks_each_prompt_once_and_each_check_once(
    rater: int, systems: int, rated_rounds: int, compared_rounds: int, checks: int
) -> None:
    rated, compared = rated_rounds * systems, compared_rounds * pairs_of(systems)
    kinds: list[Kind] = ["check_rate" if number % 2 else "check_compare" for number in range(checks)]
    items = session(rater, systems, rated, compared, kinds, np.random.default_rng(rater))
    numbers = {kind: sorted(item.number for item in items if item.kind == kind) for kind in ("rate", "compare")}
    assert numbers == {"rate": [*range(rated)], "compare": [*range(compared)]}
    asked = [item for item in items if item.kind.startswith("check")]
    assert sorted(item.number for item in asked) == [*range(checks)]
    assert all(item.kind == kinds[item.number] for item in asked)
    if rated:
        assert items[0].kind == "rate"
    for item in items:
        if item.kind == "rate":
            assert item.shown == (rated_system(rater, item.number, systems),)


def test_orders_differ_between_raters_and_are_repeatable() -> None:
    def order(rater: int) -> list[Item]:
        return session(rater, 3, 30, 0, [], np.random.default_rng([7, rater]))

    assert order(0) == order(0)
    assert [item.number for item in order(0)] != [item.number for item in order(3)]
    assert [item.number for item in order(0)] != sorted(item.number for item in order(0))
