from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.layout.patterns import PATTERNS, pattern, pattern_named, usual_angle, usual_patterns, usual_period


@pytest.mark.parametrize(
    ("phrase", "kind"),
    [
        ("a striped blue background", "striped"),
        ("Red Stripes", "striped"),
        ("a polka dot background", "dotted"),
        ("polka dots", "dotted"),
        ("an orange gradient background", "gradient"),
        ("a banded green background", "banded"),
        ("a striped dotted background", None),
        ("a stripe-backed chair", None),
        ("a blue background", None),
        ("", None),
    ],
)
def test_the_pattern_that_a_phrase_names(phrase: str, kind: str | None) -> None:
    assert pattern_named(phrase) == kind


def test_usual_patterns_are_balanced_and_repeat() -> None:
    """Half of the ground is darker and half lighter, except between dots; stripes, dots and bands are whole numbers."""
    drawn = dict(zip(PATTERNS, usual_patterns((128, 128)), strict=True))
    assert all(np.abs(drawn[kind].mean()) < 0.01 for kind in ("gradient", "striped", "banded"))
    assert np.isclose((drawn["dotted"] > 0).mean(), np.pi * 0.07, atol=0.02)  # 52 of 256 pixels
    assert np.array_equal(drawn["dotted"], np.roll(drawn["dotted"], 16, axis=(0, 1)))
    assert np.array_equal(drawn["banded"], np.roll(drawn["banded"], 32, axis=0))
    assert np.array_equal(drawn["striped"][:-1, 1:], drawn["striped"][1:, :-1])  # they rise
    assert (np.diff(drawn["gradient"][:, 0]) > 0).all()  # lighter from above to below
    assert np.ptp(drawn["gradient"][0]) < 1e-6


def test_a_pattern_is_the_same_at_another_size() -> None:
    """In a frame of twice the size each pixel of the smaller one is four, except at edges."""
    for kind in PATTERNS:
        small, large = (pattern(kind, (side, side), usual_angle(kind), usual_period(kind)) for side in (64, 128))
        reduced = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
        assert np.abs(reduced - small).mean() < 0.1


def test_an_unknown_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="kind is 'plaid'; allowed: gradient, striped, dotted, banded"):
        pattern("plaid", (8, 8), 0.0, 0.1)
