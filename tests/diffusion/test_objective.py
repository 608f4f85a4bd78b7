from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from scipy import stats
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.noising import add_noise, draw_timesteps
from vlad_lightning.diffusion.objective import (
    DDPM,
    FlowMatching,
    TimestepDensity,
    check_rescale,
    check_schedule,
    noise_time,
    objective_for,
)
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.diffusion.solvers import SolverName, solver_for

MEAN, DEVIATION = 0.7, 0.4


def flow(shift: float = 1.0) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(size: int) -> SampleGenerators:
    return SampleGenerators.of_rows("cpu", (0,), range(size), size)


def data(size: int, *shape: int) -> tuple[Tensor, Tensor]:
    x0, noise = torch.randn(2, size, *shape, generator=generator(size), dtype=torch.float64)
    return MEAN + DEVIATION * x0, noise


def test_the_schedule_determines_the_objective() -> None:
    ddpm = objective_for(DDPMScheduler(), timestep_shift=0.5, snr_gamma=3.0)
    assert isinstance(ddpm, DDPM)
    assert (ddpm.density, ddpm.timestep_shift, ddpm.snr_gamma) == ("uniform", 0.5, 3.0)
    matching = objective_for(flow(), timestep_shift=0.5)
    assert isinstance(matching, FlowMatching)
    assert (matching.density, matching.timestep_shift) == ("logit_normal", 0.5)
    assert objective_for(flow(), "uniform").density == "uniform"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ddpm_equals_eq_4_bit_for_bit(kind: str) -> None:
    schedule = DDPMScheduler(prediction_type=kind)
    ddpm = objective_for(schedule, timestep_shift=1.0, snr_gamma=3.0)
    t = ddpm.draw_timesteps(rows(9))
    assert torch.equal(t, draw_timesteps(rows(9), 1000, 1.0))
    x0, noise = (value.float() for value in data(9, 3, 2))
    found, expected = ddpm.noised(x0, noise, t), add_noise(schedule, x0, noise, t, 3.0)
    for name in ("x_t", "target", "loss_weight"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_flow_matching_of_bfloat16_data_keeps_float32_times() -> None:
    """999.5 cannot be represented in bfloat16."""
    x0, noise = (value.float() for value in data(3, 3, 2))
    x0, t = x0.bfloat16(), torch.tensor([1.5, 250.3, 999.5])
    noised = FlowMatching(flow()).noised(x0, noise, t)
    share = (t.double() / 1000).view(-1, 1, 1)
    assert noised.x_t.dtype == noised.target.dtype == torch.float32
    expected = (1 - share) * x0.double() + share * noise.double()
    torch.testing.assert_close(noised.x_t.double(), expected, rtol=0, atol=1e-6)


def test_flow_matching_is_the_straight_line_and_its_slope() -> None:
    x0, noise = data(5, 3, 2)
    t = torch.tensor([0.0, 1.0, 250.0, 999.5, 1000.0])
    noised = FlowMatching(flow()).noised(x0, noise, t)
    for i, time in enumerate((t.double() / 1000).tolist()):
        torch.testing.assert_close(noised.x_t[i], (1 - time) * x0[i] + time * noise[i])
    assert torch.equal(noised.target, noise - x0)
    assert torch.equal(noised.x_t[0], x0[0])
    assert torch.equal(noised.x_t[4], noise[4])
    assert noised.loss_weight.tolist() == [1.0] * 5


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_equals_diffusers_forward_process(shift: float) -> None:
    schedule = flow(shift)
    t = schedule.timesteps[[0, 1, 400, 999]]
    x0, noise = (value.float() for value in data(4, 3, 2))
    expected = schedule.scale_noise(x0, t, noise)
    torch.testing.assert_close(FlowMatching(schedule).noised(x0, noise, t).x_t, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_the_target_s_mean_given_x_t_is_the_velocity_of_gaussian_data(time: float) -> None:
    """Regression of the target on x_t finds E[noise - x0 | x_t], which is linear for Gaussian data."""
    x0, noise = data(200_000)
    noised = FlowMatching(flow()).noised(x0, noise, torch.full((len(x0),), 1000 * time))
    slope, intercept, *_ = stats.linregress(noised.x_t.numpy(), noised.target.numpy())
    variance = (1 - time) ** 2 * DEVIATION**2 + time**2
    expected = (time - (1 - time) * DEVIATION**2) / variance
    assert slope == pytest.approx(expected, abs=0.03)
    assert intercept == pytest.approx(-MEAN - expected * (1 - time) * MEAN, abs=0.03)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_logit_normal_times_are_normal_logits_moved_by_the_log_of_the_shift(shift: float) -> None:
    t = FlowMatching(flow(shift)).draw_timesteps(rows(4000)).double() / 1000
    assert stats.kstest((t / (1 - t)).log().numpy(), stats.norm(loc=math.log(shift)).cdf).statistic < 0.001


def test_uniform_times_are_uniform_before_the_shift() -> None:
    t = FlowMatching(flow(), "uniform").draw_timesteps(rows(4000)).double() / 1000
    assert stats.kstest(t.numpy(), stats.uniform.cdf).statistic < 0.001
    shifted = FlowMatching(flow(3.0), "uniform").draw_timesteps(rows(4000)).double() / 1000
    torch.testing.assert_close(shifted, 3 * t / (1 + 2 * t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
@pytest.mark.parametrize("timestep_shift", [0.0, 2.0])
def test_every_objective_supports_both_densities(density: TimestepDensity, timestep_shift: float) -> None:
    ddpm = objective_for(DDPMScheduler(), density, timestep_shift).draw_timesteps(rows(2000))
    matching = objective_for(flow(), density, timestep_shift).draw_timesteps(rows(2000))
    assert ddpm.dtype == torch.int64
    assert matching.dtype == torch.float32
    assert torch.equal(ddpm, matching.long().clamp(max=999))  # the same draws, rounded down
    assert (matching >= 0).all()
    assert (matching <= 1000).all()


class AtTheEnd(SampleGenerators):
    """Rows that draw 1: in float32 the last stratum of a large batch is rounded up to it."""

    def strata(self) -> Tensor:
        return torch.ones(len(self))


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
def test_a_draw_rounded_up_to_one_is_the_last_timestep(density: TimestepDensity) -> None:
    generators = AtTheEnd.of_rows("cpu", (0,), range(2), 2)
    assert objective_for(DDPMScheduler(), density).draw_timesteps(generators).tolist() == [999, 999]
    assert objective_for(flow(3.0), density).draw_timesteps(generators).tolist() == [1000, 1000]


def test_timestep_shift_favours_the_noisy_end() -> None:
    means = [FlowMatching(flow(), timestep_shift=h).draw_timesteps(rows(4000)).mean().item() for h in (0, 0.5, 2)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(500, abs=1)


def test_the_noisiest_time_is_the_schedules_last() -> None:
    last = objective_for(DDPMScheduler(500)).last_timesteps(3)
    assert last.dtype == torch.int64
    assert last.tolist() == [499] * 3
    assert objective_for(flow(3.0)).last_timesteps(2).tolist() == [1000.0] * 2


OF_FLOW = {
    "use_dynamic_shifting": True,
    "invert_sigmas": True,
    "base_shift": 0.7,
    "max_shift": 2.0,
    "base_image_seq_len": 64,
    "max_image_seq_len": 64,
    "shift_terminal": 0.02,
    "use_karras_sigmas": True,
    "use_exponential_sigmas": True,
    "use_beta_sigmas": True,
    "time_shift_type": "linear",
    "stochastic_sampling": True,
}


@pytest.mark.parametrize("name", list(OF_FLOW))
def test_schedules_of_other_processes_are_refused(name: str) -> None:
    schedule = FlowMatchEulerDiscreteScheduler(**{name: OF_FLOW[name]})
    with pytest.raises(ValueError, match=rf"schedule\.{name} is {OF_FLOW[name]}; it must be "):
        objective_for(schedule)
    with pytest.raises(ValueError, match=f"schedule.{name}"):
        Sampler().check(schedule)


def test_every_setting_of_a_flow_schedule_acts_or_is_refused() -> None:
    assert set(flow().config) - {"num_train_timesteps", "shift", "_use_default_values"} == set(OF_FLOW)


@pytest.mark.parametrize("shift", [0.0, -1.0, math.inf, math.nan])
def test_a_shift_that_leaves_no_times_is_refused(shift: float) -> None:
    schedule = flow()
    schedule.register_to_config(shift=shift)
    with pytest.raises(ValueError, match=f"schedule.shift is {shift}; it must be above 0"):
        check_schedule(schedule)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction_type is 'noise'"):
        check_schedule(DDPMScheduler(prediction_type="noise"))


def test_a_schedule_of_too_many_timesteps_is_refused() -> None:
    with pytest.raises(ValueError, match="num_train_timesteps is 100001"):
        check_schedule(FlowMatchEulerDiscreteScheduler(num_train_timesteps=100_001))


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("schedule", [DDPMScheduler(), flow()], ids=["ddpm", "flow"])
def test_the_noise_time_of_the_visited_steps_is_even_and_begins_at_pure_noise(
    schedule: DDPMScheduler | FlowMatchEulerDiscreteScheduler, name: SolverName
) -> None:
    times = solver_for(schedule, name, 20, 0.0, generator()).times
    # equal, not close: whether a step lies in an interval depends on it
    assert [noise_time(schedule, t.item()) for t in times] == [k / 20 for k in range(20, 0, -1)]
    last = objective_for(schedule).last_timesteps(1).item()
    assert noise_time(schedule, last) == 1


def test_the_noise_time_of_flow_matching_is_the_share_of_noise_after_the_shift() -> None:
    t = 600.0
    noised = objective_for(flow(3.0)).noised(torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([t]))
    assert noise_time(flow(3.0), t) == pytest.approx(noised.x_t.item())


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_predictions_of_the_data_may_be_rescaled(kind: str) -> None:
    check_rescale(DDPMScheduler(prediction_type=kind), 0.7)


def test_predictions_of_the_noise_are_not_rescaled() -> None:
    with pytest.raises(ValueError, match=r"guidance_rescale is 0\.7; it must be 0 .* predicts 'epsilon'"):
        check_rescale(DDPMScheduler(prediction_type="epsilon"), 0.7)
    with pytest.raises(ValueError, match=r"guidance_rescale is 0\.7; .* predicts the velocity of flow matching"):
        check_rescale(flow(), 0.7)
    check_rescale(DDPMScheduler(prediction_type="epsilon"), 0.0)
    check_rescale(flow(), 0.0)
