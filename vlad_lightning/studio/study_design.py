"""Which images a rater sees, and in which order: a Latin square over systems and prompts.

Rater r sees prompt j by system (r + j) mod S. A rater therefore sees every prompt once and, as the number of prompts is
a multiple of S, every system equally often; S raters in a row see every image once. Comparisons do the same with the
S (S - 1) / 2 pairs of systems in the place of the systems, and twice as many raters in a row see every pair of images
in both orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

Kind = Literal["rate", "compare", "check_rate", "check_compare"]

MOST_SYSTEMS = 50
"""The most systems of a study; their pairs grow with the square."""

MOST_ITEMS = 1000
"""The most ratings, comparisons or checks that one rater is asked for; 20 to 60 in all are usual."""


@dataclass(frozen=True)
class Item:
    """One thing that a rater is asked.

    Attributes:
        kind: a rating of one image, a comparison of two, or an attention check in the form of either.
        number: index of the prompt among the study's rated or compared prompts; of the check among its checks.
        shown: indices of the systems whose images are shown, from left to right; for a check, of its own images.
    """

    kind: Kind
    number: int
    shown: tuple[int, ...]


def rated_system(rater: int, prompt: int, systems: int) -> int:
    """Return the system whose image of a prompt the rater rates."""
    return (rater + prompt) % systems


def compared_pair(rater: int, prompt: int, systems: int) -> tuple[int, int]:
    """Return the left and the right system of the rater's comparison of a prompt.

    Within a round of all pairs, every system is left as often as right, or once more or less if their number is even.
    The next round, and the next round of raters, swaps all sides.
    """
    pairs = list(combinations(range(systems), 2))
    low, high = pairs[(rater + prompt) % len(pairs)]
    swapped = ((high - low) % 2 == 0) ^ bool((rater // len(pairs) + prompt // len(pairs)) % 2)
    return (high, low) if swapped else (low, high)


def pairs_of(systems: int) -> int:
    """Return the number of pairs of systems."""
    return systems * (systems - 1) // 2


def session(
    rater: int, systems: int, rated: int, compared: int, checks: Sequence[Kind], rng: np.random.Generator
) -> list[Item]:
    """Return a rater's items in order: the ratings and then the comparisons, each shuffled with checks among them.

    Args:
        rater: the rater's number, from 0.
        systems: S, the number of systems.
        rated: number of prompts to rate, a multiple of S.
        compared: number of prompts to compare, a multiple of the number of pairs.
        checks: the kind of each check, ``check_rate`` or ``check_compare``.
        rng: random generator of the order, of the places of the checks and of the sides of their images.
    """
    ratings = [Item("rate", prompt, (rated_system(rater, prompt, systems),)) for prompt in range(rated)]
    comparisons = [Item("compare", prompt, compared_pair(rater, prompt, systems)) for prompt in range(compared)]
    items: list[Item] = []
    for block, kind in ((ratings, "check_rate"), (comparisons, "check_compare")):
        shuffled = [block[place] for place in rng.permutation(len(block))]
        for number in (number for number, check in enumerate(checks) if check == kind):
            shown = (0,) if kind == "check_rate" else tuple(rng.permutation(2).tolist())
            # never the first of its block, which shows what an ordinary question is like
            place = int(rng.integers(min(1, len(shuffled)), len(shuffled) + 1))
            shuffled.insert(place, Item("check_rate" if kind == "check_rate" else "check_compare", number, shown))
        items += shuffled
    return items
