from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from vlad_lightning.diffusion.objective import FlowMatching, Schedule, objective_for
from vlad_lightning.generation.blending import blended, continued

SCHEDULES: list[tuple[Schedule, float]] = [
    (DDPMScheduler(prediction_type="epsilon"), 700),
    (DDPMScheduler(prediction_type="epsilon"), 700.0),  # as solvers with times between the trained ones have them
    (DDPMScheduler(prediction_type="v_prediction"), 700.0),
    (DDPMScheduler(prediction_type="sample"), 700),
    (DDPMScheduler(prediction_type="v_prediction"), 700),
    (FlowMatchEulerDiscreteScheduler(), 700.0),
]


def hole(height: int = 12, width: int = 16) -> Tensor:
    region = torch.zeros(2, 1, height, width, dtype=torch.bool)
    region[0, :, 3:8, 4:11] = True
    region[1, :, :, :5] = True  # at the edge
    return region


@pytest.mark.parametrize(("schedule", "t"), SCHEDULES)
def test_a_networks_constant_error_around_the_region_is_taken_out_of_it(schedule: Schedule, t: float) -> None:
    draw = torch.Generator().manual_seed(0)
    picture, noise, own = torch.randn(3, 2, 4, 12, 16, generator=draw)
    region, objective = hole(), objective_for(schedule)
    times = torch.full((2,), t, dtype=torch.float32 if isinstance(t, float) else torch.int64)
    whole = times if isinstance(objective, FlowMatching) else times.long()
    x = objective.noised(picture, noise, whole).x_t
    error = torch.randn(2, 4, 1, 1, generator=draw)
    wanted = torch.where(region, own, picture)
    found = blended(lambda x, t: objective.prediction_of(wanted + error, x, t), picture, region, schedule)(x, times)
    torch.testing.assert_close(objective.x0_of(found, x, times), wanted, rtol=1e-3, atol=1e-3)


def test_an_object_beside_the_region_does_not_darken_it() -> None:
    schedule, region = DDPMScheduler(prediction_type="sample"), hole()[:1]
    ground = torch.full((1, 4, 12, 16), 0.5)
    picture = ground.clone()
    picture[..., 3:8, 1:4] = -1.0  # to the left of the region
    found = blended(lambda x, t: ground - 0.2, picture, region, schedule)(ground, torch.tensor([700]))
    assert (found - ground)[region.expand_as(found)].abs().max() < 0.05
    assert torch.equal(found[~region.expand_as(found)], picture[~region.expand_as(found)])


@pytest.mark.parametrize("size", [(12, 16), (9, 7), (1, 5), (1, 1)])
def test_known_values_stay_and_others_lie_between_them(size: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(2, 3, *size, generator=draw)
    known = torch.rand(2, 1, *size, generator=draw) < 0.5
    known[:, :, 0, 0] = True
    filled = continued(values, known.float())
    where = known.expand_as(values)
    torch.testing.assert_close(filled[where], values[where])
    for row, seen, given in zip(filled.flatten(2), where.flatten(2), values.flatten(2), strict=True):
        for channel, mask, own in zip(row, seen, given, strict=True):
            assert own[mask].min() - 1e-5 <= channel.min() <= channel.max() <= own[mask].max() + 1e-5
    assert torch.equal(continued(values.masked_fill(~known, torch.nan), known.float()), filled)


def test_a_slope_is_continued_over_a_hole_and_nothing_is_continued_from_nothing() -> None:
    slope = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    known = torch.ones(1, 1, 32, 32)
    known[..., 8:24, 12:20] = 0
    assert (continued(slope, known) - slope).abs().max() < 0.15
    assert not continued(slope, torch.zeros_like(known)).any()
