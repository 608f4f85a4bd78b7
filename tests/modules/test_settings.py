from __future__ import annotations

import pytest

from vlad_lightning.modules.settings import LossSettings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("caption_dropout", 1.0, r"must lie in \[0, 1\)"),
        ("layout_dropout", -0.1, r"must lie in \[0, 1\)"),
        ("diffusion_weight", -1.0, "must be at least 0"),
        ("augmentation", -0.5, "must be at least 0"),
        ("map_weight", -0.1, "must be at least 0"),
        ("timestep_shift", -2.0, "must be at least 0"),
        ("text_weight", 0.5, "must be at least 1"),
        ("snr_gamma", 0.0, "must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; it {allowed}"):
        LossSettings(**{name: value})


def test_limit_values_are_allowed() -> None:
    limits = {"caption_dropout": 0, "layout_dropout": 0, "diffusion_weight": 0, "augmentation": 0, "text_weight": 1}
    settings = LossSettings(snr_gamma=1, **limits)
    assert {name: getattr(settings, name) for name in limits} == limits


def test_another_density_of_timesteps_is_refused() -> None:
    for density in (None, "uniform", "logit_normal"):
        assert LossSettings(timestep_density=density).timestep_density == density  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timestep_density is 'normal'"):
        LossSettings(timestep_density="normal")  # type: ignore[arg-type]
