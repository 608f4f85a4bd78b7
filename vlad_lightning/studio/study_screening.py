"""Which raters are excluded, and why: failed attention checks, equal answers, and answers faster than one can look."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vlad_lightning.limits import check_share
from vlad_lightning.studio.study_answers import Answer
from vlad_lightning.studio.study_folder import Check

LEAST_RATINGS = 10
"""The fewest ratings, or comparisons, in which equal answers say something about a rater."""


@dataclass(frozen=True)
class Limits:
    """The rules, fixed before the answers are looked at.

    Attributes:
        most_failed: a rater who fails a larger share of the attention checks is excluded.
        most_same: a rater is excluded whose most frequent score has at least this share of all scores, or who chooses
            the same side in at least this share of the comparisons.
        least_seconds: a rater whose median time for an item is shorter is excluded.
    """

    most_failed: float = 1 / 3
    most_same: float = 0.95
    least_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ValueError: naming the limit that is out of its range.
        """
        check_share("--most_failed", self.most_failed)
        check_share("--most_same", self.most_same)
        if not (self.least_seconds >= 0 and math.isfinite(self.least_seconds)):
            raise ValueError(f"--least_seconds is {self.least_seconds}; it must be a number of at least 0")


def reasons(answers: Sequence[Answer], checks: Sequence[Check], limits: Limits) -> list[str]:
    """Return why a rater is excluded; an empty list for a rater whose answers count.

    Args:
        answers: the rater's answers by position.
        checks: the study's attention checks.
        limits: the rules.
    """
    found = [_failed(answers, checks, limits.most_failed), *_same(answers, limits.most_same)]
    return [reason for reason in (*found, _fast(answers, limits.least_seconds)) if reason]


def passed(answer: Answer, checks: Sequence[Check]) -> bool:
    """Return whether the answer to an attention check is right."""
    check = checks[answer.item.number]
    if check.kind == "check_rate":
        return set(answer.value) == {check.answer}
    return answer.item.shown[answer.value[0]] == check.answer


def item_seconds(answers: Sequence[Answer]) -> list[float]:
    """Return how long each item took: as the page says, and at most the time since the answer before.

    The page's time leaves out the loading of images; the server's bounds it, since a page can be made to say anything.
    """
    since = [math.inf, *(after.answered - before.answered for before, after in itertools.pairwise(answers))]
    return [max(0.0, min(answer.seconds, passed)) for answer, passed in zip(answers, since, strict=True)]


def _failed(answers: Sequence[Answer], checks: Sequence[Check], most: float) -> str:
    asked = [answer for answer in answers if answer.item.kind in ("check_rate", "check_compare")]
    failed = sum(not passed(answer, checks) for answer in asked)
    return f"failed {failed} of {len(asked)} attention checks" if asked and failed / len(asked) > most else ""


def _same(answers: Sequence[Answer], most: float) -> list[str]:
    found = []
    for kind, name in (("rate", "gave the score {0} in {1} of {2} scores"), ("compare", "{0} in {1} of {2} pairs")):
        values = [answer.value for answer in answers if answer.item.kind == kind]
        numbers = [number for value in values for number in value]
        if len(values) < LEAST_RATINGS:
            continue
        number, count = Counter(numbers).most_common(1)[0]
        shown = number if kind == "rate" else ("chose the left image", "chose the right image")[number]
        if count / len(numbers) >= most:
            found.append(name.format(shown, count, len(numbers)))
    return found


def _fast(answers: Sequence[Answer], least: float) -> str:
    seconds = item_seconds(answers)
    middle = median(seconds) if seconds else math.inf
    return f"median of {middle:.1f} s an item" if middle < least else ""
