"""The reverse process (Eq. 5) with diffusers' DDIM solver; it takes a callable, not a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from vlad_lightning.diffusion.guidance import HierarchicalGuidance

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, ...), timesteps (B,)) -> the prediction (B, ...), in the scheduler's ``prediction_type``."""


@dataclass(frozen=True)
class Sampler:
    """How a sample is drawn; a run-time setting, never part of a checkpoint.

    Attributes:
        steps: evaluations of the solver, at least 1.
        guidance_scale: the scale of the text; 1 is none.
        layout_scale: the scale of the layout; 1 is none.
        augmentation: the s of Eq. 6 at sampling time: the standard deviation of the noise on the layout's latent.
        eta: 0 is DDIM, 1 is ancestral sampling.
        seed: of the noise, where no generator is given.

    Raises:
        ValueError: where a value is out of its range.
    """

    steps: int = 20
    guidance_scale: float = 1.0
    layout_scale: float = 1.0
    augmentation: float = 0.0
    eta: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")
        for name in ("guidance_scale", "layout_scale", "augmentation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; it must lie in [0, 1]")

    @property
    def guidance(self) -> HierarchicalGuidance:
        """The guidance with these scales."""
        return HierarchicalGuidance(self.guidance_scale, self.layout_scale)

    def draw(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        schedule: DDPMScheduler,
        generator: torch.Generator,
        progress: Callable[[Tensor], Iterable[Tensor]] = iter,
    ) -> Tensor:
        """From noise to data.

        Args:
            denoiser: see :data:`Denoiser`.
            noise: (B, ...) float32, standard normal.
            schedule: the schedule of the training; its config is copied, the object is left alone.
            generator: the randomness of ``eta`` > 0.
            progress: wraps the timesteps, as tqdm does.

        Returns:
            (B, ...) float32.
        """
        solver, times = respaced(schedule, self.steps)
        eta = min(self.eta, 1 - 1e-6)  # at 1 and zero terminal SNR, rounding makes 1 - abar - sigma^2 negative
        x = noise
        for index, t in zip(solver.timesteps, progress(times.to(noise.device)), strict=True):
            prediction = denoiser(x, t.expand(len(x))).float()
            x = solver.step(prediction, index, x, eta=eta, generator=generator).prev_sample
        return x


def respaced(schedule: DDPMScheduler, steps: int) -> tuple[DDIMScheduler, Tensor]:
    """A DDIM solver over nothing but the timesteps that are visited.

    ``DDIMScheduler.step`` goes back by ``T // steps``, which misses the next timestep, and leaves noise in the result,
    where ``steps`` does not divide ``T``; a schedule of the visited timesteps alone has no such remainder.

    Args:
        schedule: the schedule of the training, of ``T`` steps.
        steps: how many of them are visited, evenly spaced, the noisiest included ("trailing").

    Returns:
        The solver, and (steps,) int64: the training's timesteps in the order of the solver's, from noise to data.

    Raises:
        ValueError: if there are fewer than ``steps`` timesteps.
    """
    total = schedule.config.num_train_timesteps
    if steps > total:
        raise ValueError(f"steps is {steps}; the schedule has {total} timesteps")
    times = torch.arange(1, steps + 1) * total // steps - 1
    alpha_bar = schedule.alphas_cumprod.cpu().double()[times]
    betas = 1 - alpha_bar / F.pad(alpha_bar[:-1], (1, 0), value=1.0)
    changes = {"trained_betas": betas.tolist(), "rescale_betas_zero_snr": False, "timestep_spacing": "trailing"}
    solver = DDIMScheduler.from_config(schedule.config, num_train_timesteps=steps, clip_sample=False, **changes)
    solver.set_timesteps(steps)
    return solver, times.flip(0)
