"""What a caller adds to one generation, besides prompts, layouts and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from diffusers import SchedulerMixin
from torch import Tensor

from vlad_lightning.diffusion.sampler import StepHook


@dataclass(frozen=True)
class Controls:
    """How a caller watches and steers the image diffusion of ``B`` prompts.

    Attributes:
        progress: wraps the timesteps, as tqdm does.
        on_step: see :data:`~vlad_lightning.diffusion.sampler.StepHook`.
        negative_prompts: B prompts that guidance leads away from, in the place of the empty prompt; None is that one.
        latents: (B, C_z, h, w) float, standard normal: the first x_t, in the place of a draw from the generators.
        scheduler: a diffusers scheduler in the place of the sampler's solver.
    """

    progress: Callable[[Tensor], Iterable[Tensor]] = iter
    on_step: StepHook | None = None
    negative_prompts: Sequence[str] | None = None
    latents: Tensor | None = None
    scheduler: SchedulerMixin | None = None
