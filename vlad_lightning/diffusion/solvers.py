"""diffusers' solvers of the reverse process (Eq. 5), set up for the visited timesteps only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule, check_flow

SolverName = Literal["ddim", "dpmsolver++"]
_KEPT = ("prediction_type", "thresholding", "dynamic_thresholding_ratio", "sample_max_value")  # of a DDPM schedule


@dataclass(frozen=True)
class Solver:
    """A diffusers scheduler with its timesteps set; it holds the state of one sampling run.

    Attributes:
        timesteps: (steps,) the scheduler's own timesteps, from noise to data.
        times: (steps,) the timesteps that the network gets at each of them.
        update: (prediction, timestep, x) -> an object whose ``prev_sample`` is the next x.
    """

    timesteps: Tensor
    times: Tensor
    update: Callable[[Tensor, Tensor, Tensor], Any]


def solver_for(
    schedule: Schedule, name: SolverName, steps: int, eta: float, generator: torch.Generator | list[torch.Generator]
) -> Solver:
    """Create a solver for one sampling run.

    Args:
        schedule: the schedule of the training; its config is copied and the object is not changed.
        name: ``ddim`` (Euler's method for flow matching) or ``dpmsolver++``.
        steps: evaluations of the network.
        eta: DDIM's eta with a DDPM schedule; otherwise 0, see :func:`check_solver`.
        generator: the random generators, used if ``eta`` > 0.

    Raises:
        ValueError: see :func:`check_solver`.
    """
    check_solver(schedule, name, steps, eta)
    if name == "dpmsolver++":
        return dpmsolver(schedule, steps)
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        return euler(schedule, steps, generator)
    return ddim(schedule, steps, eta, generator)


def check_solver(schedule: Schedule, name: SolverName, steps: int, eta: float) -> None:
    """Refuse settings that do not fit a schedule; cheap enough to call before a training starts.

    Raises:
        ValueError: for more steps than a DDPM schedule has, for ``eta`` > 0 without DDIM on a DDPM schedule, or for a
            flow matching schedule that :class:`~vlad_lightning.diffusion.objective.FlowMatching` refuses.
    """
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        check_flow(schedule)
        if eta > 0:
            raise ValueError(f"eta is {eta}; it must be 0 for flow matching, whose samplers draw no noise")
    elif steps > schedule.config.num_train_timesteps:
        raise ValueError(f"steps is {steps}; the schedule has {schedule.config.num_train_timesteps} timesteps")
    if name != "ddim" and eta > 0:
        raise ValueError(f"eta is {eta}; it must be 0 for solver {name!r}, which draws no noise")


def ddim(schedule: DDPMScheduler, steps: int, eta: float, generator: torch.Generator | list[torch.Generator]) -> Solver:
    """Create a DDIM solver (arXiv 2010.02502)."""
    solver, times = respaced(schedule, steps)
    eta = min(eta, 1 - 1e-6)  # at 1 and zero terminal SNR, rounding makes 1 - abar - sigma^2 negative

    def update(prediction: Tensor, timestep: Tensor, x: Tensor) -> Any:
        return solver.step(prediction, timestep, x, eta=eta, generator=generator)

    return Solver(solver.timesteps, times, update)


def euler(
    schedule: FlowMatchEulerDiscreteScheduler, steps: int, generator: torch.Generator | list[torch.Generator]
) -> Solver:
    """Create a solver with Euler's method from t = 1 to 0, for a velocity; the DDIM of rectified flow."""
    solver = FlowMatchEulerDiscreteScheduler.from_config(schedule.config)
    solver.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps, dtype=torch.float64).tolist())
    solver.set_begin_index(0)

    def update(prediction: Tensor, timestep: Tensor, x: Tensor) -> Any:
        return solver.step(prediction, timestep, x, generator=generator)

    return Solver(solver.timesteps, solver.timesteps, update)


def dpmsolver(schedule: Schedule, steps: int, order: int = 2) -> Solver:
    """Create a multistep DPM-Solver++ (arXiv 2211.01095) over the timesteps that :func:`ddim` or :func:`euler` visits.

    The log-SNR of pure noise is minus infinity. There the second step's difference quotient vanishes, so the first two
    steps are of first order; so is the last step, to t = 0.

    Args:
        schedule: a schedule of DDPM or flow matching.
        steps: evaluations of the network.
        order: 1 (which is DDIM) to 3.
    """
    settings = {"num_train_timesteps": steps, "solver_order": order, "timestep_spacing": "trailing"}
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        visited = euler(schedule, steps, torch.Generator())
        times, sigmas = visited.times, visited.times.double() / schedule.config.num_train_timesteps
        solver = DPMSolverMultistepScheduler(**settings, prediction_type="flow_prediction", use_flow_sigmas=True)
    else:
        like, times = respaced(schedule, steps)
        alpha_bar = schedule.alphas_cumprod.cpu().double()[times].clamp(min=1e-12)  # keeps zero terminal SNR finite
        sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
        solver = DPMSolverMultistepScheduler.from_config(like.config, **settings, variance_type=None)
    solver.set_timesteps(steps)
    solver.sigmas = F.pad(sigmas, (0, 1))  # the solver's own are rounded to float32, and infinite at zero terminal SNR
    solver.set_begin_index(0)
    return Solver(solver.timesteps, times, solver.step)


def respaced(schedule: DDPMScheduler, steps: int) -> tuple[DDIMScheduler, Tensor]:
    """Create a DDIM solver over the visited timesteps only.

    ``DDIMScheduler.step`` goes back by ``T // steps``. If ``steps`` does not divide ``T``, that misses the next
    timestep and leaves noise in the result. A schedule of the visited timesteps alone has no such remainder.

    Args:
        schedule: the schedule of the training, with ``T`` steps.
        steps: number of visited timesteps, evenly spaced and including the noisiest ("trailing").

    Returns:
        The solver, and (steps,) int64: the training's timesteps in the solver's order, from noise to data.

    Raises:
        ValueError: if there are fewer than ``steps`` timesteps.
    """
    check_solver(schedule, "ddim", steps, 0.0)
    total = schedule.config.num_train_timesteps
    times = torch.arange(1, steps + 1) * total // steps - 1
    alpha_bar = schedule.alphas_cumprod.cpu().double()[times]
    betas = 1 - alpha_bar / F.pad(alpha_bar[:-1], (1, 0), value=1.0)
    # Copied by name: a published schedule may hold another solver's settings, which from_config would take over
    own = {name: schedule.config[name] for name in _KEPT}
    solver = DDIMScheduler(steps, trained_betas=betas.tolist(), clip_sample=False, timestep_spacing="trailing", **own)
    solver.alphas_cumprod = alpha_bar.float()  # its own come from float32 betas, and a beta near 1 leaves no signal
    solver.set_timesteps(steps)
    return solver, times.flip(0)
