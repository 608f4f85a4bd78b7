from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.health.loss_spikes import LossWindow, SpikeRule


def losses(steps: int, seed: int = 0) -> np.ndarray:
    """Make a loss that falls from 1 towards 0.1 with heavy-tailed noise, like a diffusion loss."""
    generators = np.random.default_rng(seed)
    return (0.1 + 0.9 * np.exp(-np.arange(steps) / 300)) * generators.lognormal(0, 0.3, steps)


def test_the_limit_equals_median_and_deviation_by_definition() -> None:
    window = LossWindow(SpikeRule(window=16, deviations=4))
    values = losses(40)
    for value in values:
        window.add(float(value))
    recent = values[-16:]
    spread = 1.4826 * np.median(np.abs(recent - np.median(recent)))
    assert window.limit() == pytest.approx(np.median(recent) + 4 * spread, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_falling_noisy_loss_raises_no_alarm(seed: int) -> None:
    window = LossWindow()
    assert not any(window.add(float(value)) for value in losses(3000, seed))


def test_a_spike_is_detected_and_does_not_hide_the_next() -> None:
    window = LossWindow()
    for value in losses(400):
        window.add(float(value))
    assert window.add(20.0)
    assert window.add(5.0)
    assert not window.add(0.3)


def test_no_spike_in_the_warm_up() -> None:
    window = LossWindow(SpikeRule(window=8))
    assert not any(window.add(value) for value in (1.0, 1.0, 1.0, 1e6, 1.0, 1.0, 1.0, 1.0))
    assert window.add(1e6)


def test_a_lasting_change_of_level_stops_being_a_spike() -> None:
    window = LossWindow(SpikeRule(window=16))
    for value in [1.0, 1.1] * 8:
        window.add(value)
    seen = [window.add(value) for value in [50.0, 51.0] * 8]
    assert all(seen[:8])
    assert not any(seen[-4:])


def test_equal_losses_tolerate_small_changes() -> None:
    window = LossWindow(SpikeRule(window=8, deviations=10))
    for _ in range(8):
        window.add(1.0)
    assert not window.add(1.05)
    assert window.add(1.2)


def test_negative_equal_losses_tolerate_as_much() -> None:
    window = LossWindow(SpikeRule(window=8, deviations=10))
    for _ in range(8):
        window.add(-1.0)
    assert window.limit() == pytest.approx(-0.9)


@pytest.mark.parametrize(("change", "word"), [({"window": 7}, "window"), ({"deviations": 0}, "deviations")])
def test_bad_settings_are_named(change: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} is"):
        SpikeRule(**change)  # type: ignore[arg-type]


def test_unknown_action_names_those_allowed() -> None:
    with pytest.raises(ValueError, match="log, skip, roll_back"):
        SpikeRule(action="explode")  # type: ignore[arg-type]
