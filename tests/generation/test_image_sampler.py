from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from diffusers import DDPMScheduler

from vlad_lightning.diffusion.guidance import HierarchicalGuidance
from vlad_lightning.generation.image_sampler import ImageSampler


def test_the_scales_reach_the_guidance() -> None:
    sampler = ImageSampler(guidance_scale=4.0, layout_scale=2.0, guidance_interval=(0.1, 0.9), guidance_rescale=0.5)
    assert sampler.guidance == HierarchicalGuidance(4.0, 2.0, (0.1, 0.9), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan; it must be at least 0"),
        ({"guidance_scale": -0.1}, "guidance_scale is -0.1; it must be at least 0"),
        ({"layout_scale": -1.0}, "layout_scale is -1.0; it must be at least 0"),
        ({"augmentation": -0.5}, "augmentation is -0.5; it must be at least 0"),
        (
            {"guidance_interval": (0.5, 0.5)},
            r"guidance_interval is \(0\.5, 0\.5\); it must be two numbers",
        ),
        ({"guidance_interval": (-0.1, 0.5)}, "guidance_interval is"),
        ({"guidance_interval": (0.1, float("nan"))}, "guidance_interval is"),
        ({"guidance_interval": (0.1, 1.5)}, "guidance_interval is"),
        ({"guidance_interval": (0.1,)}, "guidance_interval is"),
        ({"guidance_interval": 0.5}, r"guidance_interval is 0\.5"),
        ({"guidance_interval": ("a", "b")}, "guidance_interval is"),
        ({"guidance_rescale": 1.1}, "guidance_rescale=1.1: must lie in"),
        ({"guidance_rescale": float("nan")}, "guidance_rescale=nan"),
        ({"cache_interval": 0}, "cache_interval is 0; it must be a whole number from 1"),
    ],
)
def test_a_value_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSampler(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_interval": (0.2, 0.9)}, r"guidance_interval is \(0\.2, 0\.9\); .* both scales are 1"),
        ({"guidance_rescale": 0.5}, r"guidance_rescale is 0\.5; .* both scales are 1"),
        ({"guidance_rescale": 0.5, "guidance_scale": 0.0}, r"guidance_rescale is 0\.5; .* guidance_scale is 0"),
    ],
)
def test_an_option_of_guidance_that_has_no_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    schedule = DDPMScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match=message):
        ImageSampler(**changes).check(schedule)
    ImageSampler(**(changes | {"guidance_scale": 2.0})).check(schedule)


def test_a_callers_scales_drop_the_pipelines_settings_that_they_leave_idle() -> None:
    own = ImageSampler(guidance_scale=3.0, layout_scale=3.0, guidance_rescale=0.7, guidance_interval=(0.1, 0.9))
    assert own.changed({"steps": None, "guidance_scale": None}) is own
    assert own.changed({"guidance_scale": 2.0, "steps": 5}) == replace(own, guidance_scale=2.0, steps=5)
    assert own.changed({"guidance_scale": 1.0, "layout_scale": 1.0}) == ImageSampler()
    blind = own.changed({"guidance_scale": 0.0})
    assert (blind.guidance_rescale, blind.guidance_interval) == (0.0, (0.1, 0.9))
    both = own.changed({"guidance_scale": 1.0, "layout_scale": 1.0, "guidance_rescale": 0.5})
    with pytest.raises(ValueError, match=r"guidance_rescale is 0\.5; .* both scales are 1"):
        both.check(DDPMScheduler(prediction_type="sample"))
