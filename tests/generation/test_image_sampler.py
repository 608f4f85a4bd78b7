from __future__ import annotations

from typing import Any

import pytest

from vlad_lightning.generation.image_sampler import ImageSampler


def test_the_scales_reach_the_guidance() -> None:
    guidance = ImageSampler(guidance_scale=4.0, layout_scale=2.0).guidance
    assert (guidance.text_scale, guidance.layout_scale) == (4.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan; it must be at least 0"),
        ({"guidance_scale": -0.1}, "guidance_scale is -0.1; it must be at least 0"),
        ({"layout_scale": -1.0}, "layout_scale is -1.0; it must be at least 0"),
        ({"augmentation": -0.5}, "augmentation is -0.5; it must be at least 0"),
        ({"cache_interval": 0}, "cache_interval is 0; it must be a whole number from 1"),
    ],
)
def test_a_value_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSampler(**changes)
