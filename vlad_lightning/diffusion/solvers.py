"""diffusers' solvers of the reverse process (Eq. 5), set up for the visited timesteps only, and a user's own."""

from __future__ import annotations

import inspect
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
    SchedulerMixin,
)
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule, check_flow

SolverName = Literal["ddim", "dpmsolver++"]
_FLOW = "the velocity of flow matching"
_MOST_ETA = 1 - 1e-6  # at 1 and zero terminal SNR, rounding makes 1 - abar - sigma^2 negative
_KEPT = ("prediction_type", "thresholding", "dynamic_thresholding_ratio", "sample_max_value")  # of a DDPM schedule


@dataclass(frozen=True)
class Solver:
    """A diffusers scheduler with its timesteps set; it holds the state of one sampling run.

    Attributes:
        timesteps: (steps,) the scheduler's own timesteps, from noise to data.
        times: (steps,) the timesteps that the network gets at each of them.
        update: (prediction, timestep, x) -> an object whose ``prev_sample`` is the next x.
        scaled: (x, timestep) -> the network's input; None is x itself.
        noise_scale: deviation of the first x.
    """

    timesteps: Tensor
    times: Tensor
    update: Callable[[Tensor, Tensor, Tensor], Any]
    scaled: Callable[[Tensor, Tensor], Tensor] | None = None
    noise_scale: float = 1.0


def solver_for(
    schedule: Schedule, name: SolverName, steps: int, eta: float, generator: torch.Generator | list[torch.Generator]
) -> Solver:
    """Create a solver for one sampling run.

    Args:
        schedule: the schedule of the training; its config is copied and the object is not changed. A scheduler of
            another class is used as it is, in the place of ``name``'s.
        name: ``ddim`` (Euler's method for flow matching) or ``dpmsolver++``.
        steps: evaluations of the network.
        eta: DDIM's eta with a DDPM schedule; otherwise 0, see :func:`check_solver`.
        generator: the random generators, used if ``eta`` > 0.

    Raises:
        ValueError: see :func:`check_solver`.
    """
    check_solver(schedule, name, steps, eta)
    if not is_trainable(schedule):
        return given(schedule, steps, eta, generator)
    if name == "dpmsolver++":
        return dpmsolver(schedule, steps)
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        return euler(schedule, steps, generator)
    return ddim(schedule, steps, eta, generator)


def check_solver(schedule: Schedule, name: SolverName, steps: int, eta: float) -> None:
    """Refuse settings that do not fit a schedule; cheap enough to call before a training starts.

    Raises:
        ValueError: for more steps than a DDPM schedule has, for ``eta`` > 0 without DDIM on a DDPM schedule, or for a
            flow matching schedule that :class:`~vlad_lightning.diffusion.objective.FlowMatching` refuses; for a
            scheduler of another class, for ``eta`` > 0 if its steps have none.
    """
    if not is_trainable(schedule):
        if eta > 0 and "eta" not in inspect.signature(schedule.step).parameters:
            raise ValueError(f"eta is {eta}; it must be 0 for a {type(schedule).__name__}, whose steps have none")
        return
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        check_flow(schedule)
        if eta > 0:
            raise ValueError(f"eta is {eta}; it must be 0 for flow matching, whose samplers draw no noise")
    elif steps > schedule.config.num_train_timesteps:
        raise ValueError(f"steps is {steps}; the schedule has {schedule.config.num_train_timesteps} timesteps")
    if name != "ddim" and eta > 0:
        raise ValueError(f"eta is {eta}; it must be 0 for solver {name!r}, which draws no noise")


def is_trainable(scheduler: SchedulerMixin) -> bool:
    """Return whether a scheduler is a forward process that is trained on; any other one is a solver of a user's."""
    return isinstance(scheduler, DDPMScheduler | FlowMatchEulerDiscreteScheduler)


def forward_process(scheduler: SchedulerMixin) -> Schedule:
    """Return the forward process that a scheduler was made for: itself, or one of its configuration."""
    if is_trainable(scheduler):
        return scheduler
    flow = _prediction(scheduler) == _FLOW
    return (FlowMatchEulerDiscreteScheduler if flow else DDPMScheduler).from_config(scheduler.config)


def given(
    scheduler: SchedulerMixin, steps: int, eta: float, generator: torch.Generator | list[torch.Generator]
) -> Solver:
    """Create a solver from a copy of any diffusers scheduler, with timesteps as it spaces them."""
    solver: Any = type(scheduler).from_config(scheduler.config)
    solver.set_timesteps(steps)
    taken = inspect.signature(solver.step).parameters
    own = {name: value for name, value in (("eta", min(eta, _MOST_ETA)), ("generator", generator)) if name in taken}

    def update(prediction: Tensor, timestep: Tensor, x: Tensor) -> Any:
        return solver.step(prediction, timestep, x, **own)

    scaled = getattr(solver, "scale_model_input", None)  # flow matching has none
    return Solver(solver.timesteps, solver.timesteps, update, scaled, float(getattr(solver, "init_noise_sigma", 1.0)))


def check_replacement(scheduler: SchedulerMixin, schedule: Schedule) -> None:
    """Refuse a scheduler that reads the network's prediction as something else than what was trained.

    Args:
        scheduler: a diffusers scheduler of any class.
        schedule: the schedule of the training.

    Raises:
        ValueError: naming both predictions, or the numbers of timesteps; or a class that cannot read the prediction.
    """
    own, other = _prediction(schedule), _prediction(scheduler)
    if own != other:
        raise ValueError(
            f"scheduler is a {type(scheduler).__name__} for {other}; the network predicts {own}: "
            f"{type(scheduler).__name__}.from_config(pipe.scheduler.config) keeps that"
        )
    total, steps = schedule.config.num_train_timesteps, scheduler.config.num_train_timesteps
    if total != steps:
        raise ValueError(f"scheduler.num_train_timesteps is {steps}; the network was trained with {total}")
    if not is_trainable(scheduler):
        solver, x = given(scheduler, min(10, total), 0.0, torch.Generator()), torch.zeros(1, 1, 1, 1)
        try:
            solver.update(x, solver.timesteps[0], x)
        except (ValueError, NotImplementedError) as error:
            raise ValueError(f"scheduler is a {type(scheduler).__name__}, which cannot read {own}: {error}") from error


def _prediction(scheduler: SchedulerMixin) -> str:
    """Name what a scheduler takes the network's output for."""
    kind = scheduler.config.get("prediction_type", "epsilon")
    flow = type(scheduler).__name__.startswith("FlowMatch") or kind == "flow_prediction"
    return _FLOW if flow else f"{kind!r}"


def ddim(schedule: DDPMScheduler, steps: int, eta: float, generator: torch.Generator | list[torch.Generator]) -> Solver:
    """Create a DDIM solver (arXiv 2010.02502)."""
    solver, times = respaced(schedule, steps)
    eta = min(eta, _MOST_ETA)

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
