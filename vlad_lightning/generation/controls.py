"""What a caller adds to one generation, besides prompts, layouts and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn

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
        size: height and width of the images in pixels; None is the image generator's square.
        device: where the parts compute, if they lie elsewhere when they are not in use; None is where they lie.
    """

    progress: Callable[[Tensor], Iterable[Tensor]] = iter
    on_step: StepHook | None = None
    negative_prompts: Sequence[str] | None = None
    latents: Tensor | None = None
    scheduler: SchedulerMixin | None = None
    size: tuple[int, int] | None = None
    device: torch.device | None = None

    def of_rows(self, rows: Sequence[int], size: tuple[int, int]) -> Controls:
        """Return what is added to some of the B prompts, whose images have this size."""
        negative, latents = self.negative_prompts, self.latents
        return replace(
            self,
            size=size,
            negative_prompts=None if negative is None else [negative[row] for row in rows],
            latents=None if latents is None else latents[list(rows)],
        )

    @contextmanager
    def resident(self, *parts: nn.Module) -> Iterator[None]:
        """Keep parts on :attr:`device` within the context, and on the CPU otherwise; without a device, do nothing."""
        if self.device is None:
            yield
            return
        for part in parts:
            part.to(self.device)
        try:
            yield
        finally:
            for part in parts:
                part.to("cpu")
