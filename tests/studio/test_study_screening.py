from __future__ import annotations

import pytest

from vlad_lightning.studio.study_answers import Answer
from vlad_lightning.studio.study_design import Item, Kind
from vlad_lightning.studio.study_folder import Check
from vlad_lightning.studio.study_screening import Limits, item_seconds, passed, reasons

CHECKS = (Check("check_rate", ("0" * 32,), 2), Check("check_compare", ("1" * 32, "2" * 32), 0))


def answer(position: int, kind: Kind, value: tuple[int, ...], number: int = 0, shown: tuple[int, ...] = (0,)) -> Answer:
    return Answer(0, position, Item(kind, number, shown), value, seconds=5.0, answered=1000.0 + 6 * position)


def careful(count: int = 12) -> list[Answer]:
    return [answer(place, "rate", (1 + place % 5, 3, 4)) for place in range(count)]


def test_a_careful_rater_counts() -> None:
    checks = [answer(12, "check_rate", (2, 2, 2)), answer(13, "check_compare", (1,), 1, (1, 0))]
    assert [passed(check, CHECKS) for check in checks] == [True, True]  # the second shows the right image on the right
    assert reasons([*careful(), *checks], CHECKS, Limits()) == []


def test_failed_checks_exclude_beyond_a_third() -> None:
    right, wrong = answer(12, "check_rate", (2, 2, 2)), answer(13, "check_rate", (2, 2, 3))
    assert not passed(wrong, CHECKS)
    assert not passed(answer(13, "check_compare", (1,), 1, (0, 1)), CHECKS)
    assert reasons([*careful(), right, right, wrong], CHECKS, Limits()) == []
    assert reasons([*careful(), right, wrong], CHECKS, Limits()) == ["failed 1 of 2 attention checks"]
    assert reasons([*careful(), right, wrong], CHECKS, Limits(most_failed=0.5)) == []


def test_equal_answers_exclude_if_there_are_ten() -> None:
    straight = [answer(place, "rate", (4, 4, 4)) for place in range(10)]
    assert reasons(straight, CHECKS, Limits()) == ["gave the score 4 in 30 of 30 scores"]
    assert reasons(straight[:9], CHECKS, Limits()) == []
    assert reasons([*straight[:9], answer(9, "rate", (4, 3, 3))], CHECKS, Limits()) == []  # 28 of 30
    left = [answer(place, "compare", (0,), 0, (place % 2, 1 - place % 2)) for place in range(10)]
    assert reasons(left, CHECKS, Limits()) == ["chose the left image in 10 of 10 pairs"]


def test_answers_faster_than_one_can_look_exclude() -> None:
    fast = [Answer(0, p, Item("rate", p, (0,)), (1 + p % 5, 2, 3), 60.0, 1000.0 + p) for p in range(12)]
    assert item_seconds(fast) == [60.0, *[1.0] * 11]  # the page's time is bounded by the server's
    assert reasons(fast, CHECKS, Limits()) == ["median of 1.0 s an item"]
    assert reasons(fast, CHECKS, Limits(least_seconds=1)) == []


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"most_failed": 1.5}, "--most_failed=1.5"),
        ({"most_same": float("nan")}, "--most_same=nan"),
        ({"least_seconds": float("inf")}, "--least_seconds is inf"),
    ],
)
def test_limits_out_of_their_range_are_named(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**limits)
