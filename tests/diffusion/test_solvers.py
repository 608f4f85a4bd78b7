"""Compare solvers with closed forms, hand-written recursions in float64 and diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.diffusion.sampler import Denoiser, Sampler
from vlad_lightning.diffusion.solvers import Solver, SolverName, ddim, dpmsolver, euler, respaced

MEAN, DEVIATION = 0.7, 0.4


def schedule(kind: str = "sample", zero_snr: bool = True, steps: int = 1000) -> DDPMScheduler:
    return DDPMScheduler(steps, prediction_type=kind, rescale_betas_zero_snr=zero_snr)


def flow(shift: float = 1.0) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def solve(solver: Solver, denoiser: Denoiser, x: Tensor) -> Tensor:
    for timestep, t in zip(solver.timesteps, solver.times, strict=True):
        x = solver.update(denoiser(x, t.expand(len(x))), timestep, x).prev_sample
    return x


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[noise - x0 | x_t] for x0 ~ N(MEAN, DEVIATION^2), t in [0, 1]."""
    variance = (1 - t) ** 2 * DEVIATION**2 + t**2
    return (t - (1 - t) * DEVIATION**2) / variance * (x - (1 - t) * MEAN) - MEAN


def of_flow(x: Tensor, t: Tensor) -> Tensor:
    return gaussian_velocity(x, (t / 1000).view(-1, 1).to(x.dtype))


def of_ddpm(kind: str, schedule: DDPMScheduler) -> Denoiser:
    """Return the optimal prediction of ``kind`` for the same data."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha = schedule.alphas_cumprod[t].view(-1, 1).double()
        x = x.double()
        x0 = MEAN + alpha.sqrt() * DEVIATION**2 * (x - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha)
        said = {"sample": x0, "epsilon": (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()}
        said["v_prediction"] = alpha.sqrt() * said["epsilon"] - (1 - alpha).sqrt() * x0
        return said[kind].float()

    return denoise


def slow_start() -> DDPMScheduler:
    """Make a schedule whose 1 - abar starts as the square of t, so that the first-order end costs no order."""
    return DDPMScheduler(4000, trained_betas=torch.linspace(1e-9, 0.005, 4000).tolist(), prediction_type="sample")


def exact(x: Tensor, of: Schedule) -> Tensor:
    """Return the end of the probability flow: each quantile of the noised data goes to that quantile of the data."""
    if isinstance(of, FlowMatchEulerDiscreteScheduler):
        return MEAN + DEVIATION * x.double()
    alpha = of.alphas_cumprod[-1].double()
    return MEAN + DEVIATION * (x.double() - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha).sqrt()


@pytest.mark.parametrize("steps", [1, 10, 20, 50])
def test_if_steps_divide_the_schedule_the_timesteps_equal_diffusers(steps: int) -> None:
    of = schedule("v_prediction")
    theirs = DDIMScheduler.from_config(of.config, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    solver, times = respaced(of, steps)
    assert times.tolist() == theirs.timesteps.tolist()
    torch.testing.assert_close(solver.alphas_cumprod.flip(0), of.alphas_cumprod[times], rtol=1e-4, atol=1e-6)


def test_otherwise_each_visited_timestep_is_in_the_schedule_once() -> None:
    for steps in range(1, 101):
        times = respaced(schedule(steps=100), steps)[1].tolist()
        assert len(set(times)) == steps
        assert times == sorted(times, reverse=True)
        assert times[0] == 99
        assert times[-1] >= 0


@pytest.mark.parametrize("kind", ["sample", "v_prediction", "epsilon"])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 61])
def test_dpm_solver_of_order_1_is_ddim(kind: str, zero_snr: bool, steps: int) -> None:
    if kind == "epsilon" and zero_snr:
        pytest.skip("epsilon says nothing of x0 at pure noise")
    of, x = schedule(kind, zero_snr), noise(50, 1)

    def denoise(x: Tensor, t: Tensor) -> Tensor:  # no structure from which a solver could profit
        return torch.sin(3 * x + t[:, None] / 100)

    tolerance = 1e-5 if kind != "epsilon" else 3e-3  # 1 / sqrt(abar) enlarges the rounding
    expected = solve(ddim(of, steps, 0.0, generator()), denoise, x)
    torch.testing.assert_close(solve(dpmsolver(of, steps, 1), denoise, x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_dpm_solver_of_order_1_is_euler_for_flow_matching(shift: float, steps: int) -> None:
    x, of = noise(50, 1), flow(shift)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x + t[:, None] / 100)

    expected = solve(euler(of, steps, generator()), denoise, x)
    torch.testing.assert_close(solve(dpmsolver(of, steps, 1), denoise, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("of", "denoiser"), [(flow(), of_flow), (flow(3.0), of_flow), (slow_start(), of_ddpm("sample", slow_start()))]
)
def test_order_of_convergence_on_gaussian_data(of: Schedule, denoiser: Denoiser) -> None:
    """Four times the steps: a quarter of the error for DDIM and Euler, a sixteenth for DPM-Solver++ in the limit."""
    x = torch.linspace(-2, 2, 41)[:, None]

    def error(make: Callable[[int], Solver], steps: int) -> float:
        return (solve(make(steps), denoiser, x).double() - exact(x, of)).abs().max().item()

    def first(steps: int) -> Solver:
        if isinstance(of, FlowMatchEulerDiscreteScheduler):
            return euler(of, steps, generator())
        return ddim(of, steps, 0.0, generator())

    assert error(first, 320) / error(first, 1280) == pytest.approx(4, rel=0.1)
    coarse, fine = (error(lambda steps: dpmsolver(of, steps), steps) for steps in (320, 1280))
    assert coarse / fine > 10
    assert fine < error(first, 1280) / 10


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_equals_a_recursion_by_hand_in_float64(shift: float) -> None:
    times = [shift * u / (1 + (shift - 1) * u) for u in (k / 12 for k in range(12, -1, -1))]
    x = noise(64, 1).double()
    for now, after in pairwise(times):
        x = x + (after - now) * gaussian_velocity(x, torch.tensor([[now]], dtype=torch.float64))
    solver = euler(flow(shift), 12, generator())
    assert solver.times.tolist() == pytest.approx([1000 * t for t in times[:-1]])
    torch.testing.assert_close(solve(solver, of_flow, noise(64, 1)).double(), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_samples_gaussian_data_with_their_mean_and_deviation(solver: SolverName, shift: float) -> None:
    sampler = Sampler(steps=100, solver=solver)
    result = sampler.draw(of_flow, noise(20_000, 1), flow(shift), [])
    assert result.mean().item() == pytest.approx(MEAN, abs=0.012)  # 4 standard errors: 0.4 / sqrt(20000) * 4
    assert result.std().item() == pytest.approx(DEVIATION, abs=0.012)


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_dpm_solver_samples_gaussian_data_from_zero_terminal_snr(kind: str) -> None:
    of = schedule(kind)
    result = Sampler(steps=50, solver="dpmsolver++").draw(of_ddpm(kind, of), noise(20_000, 1), of, [])
    assert result.mean().item() == pytest.approx(MEAN, abs=0.012)
    assert result.std().item() == pytest.approx(DEVIATION, abs=0.012)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("of", [schedule(), flow()], ids=["ddpm", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 61])
def test_an_oracle_of_one_point_is_recovered(solver: SolverName, of: Schedule, steps: int) -> None:
    x0 = torch.tensor([[3.0, -1.5, 0.25]])

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return (x - x0) / (t / 1000)[:, None] if isinstance(of, FlowMatchEulerDiscreteScheduler) else x0.expand_as(x)

    result = Sampler(steps=steps, solver=solver).draw(denoise, noise(2, 3), of, [])
    torch.testing.assert_close(result, x0.expand(2, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_if_steps_divide_the_schedule_dpm_solver_equals_diffusers(order: int) -> None:
    of, x = schedule("v_prediction", zero_snr=False), noise(20, 1)
    theirs = DPMSolverMultistepScheduler.from_config(of.config, timestep_spacing="trailing", solver_order=order)
    theirs.set_timesteps(20)
    expected = x
    for t in theirs.timesteps:
        expected = theirs.step(torch.sin(3 * expected), t, expected).prev_sample
    result = solve(dpmsolver(of, 20, order), lambda x, t: torch.sin(3 * x), x)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3)  # theirs has float32 sigmas


def test_dpm_solver_visits_the_timesteps_of_ddim_once_each() -> None:
    for of in (schedule(), schedule("epsilon", zero_snr=False)):
        for steps in (1, 7, 20, 600):
            solver = dpmsolver(of, steps)
            assert torch.equal(solver.times, respaced(of, steps)[1])
            assert len(solver.timesteps) == steps


def test_settings_incompatible_with_the_schedule_are_refused() -> None:
    for sampler, of, message in (
        (Sampler(steps=11), schedule(steps=10), "steps is 11; the schedule has 10 timesteps"),
        (Sampler(steps=11, solver="dpmsolver++"), schedule(steps=10), "steps is 11; the schedule has 10 timesteps"),
        (Sampler(eta=0.5), flow(), "eta is 0.5; it must be 0 for flow matching"),
        (Sampler(eta=0.5, solver="dpmsolver++"), schedule(), r"eta is 0.5; it must be 0 for solver 'dpmsolver\+\+'"),
        (Sampler(), FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), "use_dynamic_shifting is True"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler.check(of)
        with pytest.raises(ValueError, match=message):
            sampler.draw(lambda x, t: x, noise(1, 2), of, [])


def test_the_flow_schedule_is_not_changed() -> None:
    of, fresh = flow(3.0), flow(3.0)
    for solver in ("ddim", "dpmsolver++"):
        Sampler(steps=7, solver=solver).draw(of_flow, noise(2, 1), of, [])
    assert dict(of.config) == dict(fresh.config)
    assert torch.equal(of.timesteps, fresh.timesteps)
    assert torch.equal(of.sigmas, fresh.sigmas)
