"""The reverse process (Eq. 5) with diffusers' solvers, for any callable denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.diffusion.solvers import SolverName, check_solver, solver_for
from vlad_lightning.limits import MOST_STEPS, check_whole

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, ...), timesteps (B,)) -> the prediction (B, ...): epsilon, v, x0 or a velocity, as the schedule says."""

StepHook = Callable[[int, Tensor, Tensor], Tensor | None]
"""(index of the step, its timestep (), x (B, ...) after it) -> the x to go on with; None ends the sampling there."""


@dataclass(frozen=True)
class Sampler:
    """Sampling settings; chosen at run time, never part of a checkpoint.

    Attributes:
        steps: evaluations of the solver, 1 to 10,000.
        solver: ``ddim`` (Euler's method for flow matching) or ``dpmsolver++`` (second order).
        eta: 0 is DDIM, 1 is ancestral sampling; only for ``ddim`` over a DDPM schedule.

    Raises:
        ValueError: if a value is out of its range.
    """

    steps: int = 20
    solver: SolverName = "ddim"
    eta: float = 0.0

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1, MOST_STEPS)
        if self.solver not in get_args(SolverName):
            raise ValueError(f"solver is {self.solver!r}; allowed are {', '.join(map(repr, get_args(SolverName)))}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; it must lie in [0, 1]")

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule that these settings do not fit, before any work is done.

        Raises:
            ValueError: see :func:`~vlad_lightning.diffusion.solvers.check_solver`.
        """
        check_solver(schedule, self.solver, self.steps, self.eta)

    def draw(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        schedule: Schedule,
        generators: Sequence[torch.Generator],
        progress: Callable[[Tensor], Iterable[Tensor]] = iter,
        on_step: StepHook | None = None,
    ) -> Tensor:
        """Sample data from noise.

        Args:
            denoiser: see :data:`Denoiser`.
            noise: (B, ...) float32, standard normal.
            schedule: the schedule of the training, or any diffusers scheduler to use instead of ``solver``; its config
                is copied and the object is not changed.
            generators: B random generators, used if ``eta`` > 0.
            progress: wraps the timesteps, as tqdm does.
            on_step: called after each step; None goes on with what the solver computes.

        Returns:
            (B, ...) float32.

        Raises:
            ValueError: if the settings do not fit the schedule, see :meth:`check`.
        """
        solver = solver_for(schedule, self.solver, self.steps, self.eta, list(generators))
        x = noise * solver.noise_scale if solver.noise_scale != 1 else noise
        shown = enumerate(progress(solver.times.to(noise.device)))
        for timestep, (index, t) in zip(solver.timesteps, shown, strict=True):
            scaled = x if solver.scaled is None else solver.scaled(x, timestep)
            prediction = denoiser(scaled, t.expand(len(x))).float()
            x = solver.update(prediction, timestep, x).prev_sample
            if on_step is not None:
                changed = on_step(index, t, x)
                if changed is None:
                    break
                x = changed
        return x
