"""The weighted denoising error of the baselines, and their classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.guidance import ALWAYS
from vlad_lightning.diffusion.noising import Noised
from vlad_lightning.diffusion.objective import Schedule, noise_time, objective_for
from vlad_lightning.diffusion.sampler import Denoiser
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.glyphs import glyph_images, near_letters
from vlad_lightning.limits import check_share
from vlad_lightning.modules.diffusion_loss import object_cover, pixel_weights
from vlad_lightning.types import Batch


@dataclass(frozen=True)
class DenoisingSettings:
    """Settings of a baseline's denoising loss; those that it shares with VLAD act alike.

    Attributes:
        caption_dropout: share of samples trained without their text, for guidance.
        text_weight: weight of the error at words; elsewhere it is 1.
        object_weight: weight of the error in objects' boxes; elsewhere it is 1.
        snr_gamma: see :func:`~vlad_lightning.diffusion.noising.add_noise`.
        timestep_shift: see :func:`~vlad_lightning.diffusion.noising.draw_uniform`.

    Raises:
        ValueError: where a value is out of its range.
    """

    caption_dropout: float = 0.1
    text_weight: float = 1.0
    object_weight: float = 1.0
    snr_gamma: float = 5.0
    timestep_shift: float = 0.0

    def __post_init__(self) -> None:
        check_share("caption_dropout", self.caption_dropout)
        for name in ("text_weight", "object_weight", "snr_gamma"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.timestep_shift < math.inf:
            raise ValueError(f"timestep_shift is {self.timestep_shift}; it must be at least 0")


def noised_data(
    schedule: Schedule, settings: DenoisingSettings, x0: Tensor, generators: SampleGenerators
) -> tuple[Tensor, Noised]:
    """Draw timesteps (B,), then noise, and apply the forward process to the data ``x0`` (B, ...)."""
    objective = objective_for(schedule, None, settings.timestep_shift, settings.snr_gamma)
    steps = objective.draw_timesteps(generators)
    return steps, objective.noised(x0, generators.normal(*x0.shape[1:]), steps)


def weighted_error(predicted: Tensor, noised: Noised, batch: Batch, settings: DenoisingSettings) -> Tensor:
    """Compute the mean squared error of a prediction (B, C, h, w), weighted by time and position, () float32."""
    error = (predicted.float() - noised.target).square().mean(dim=1)  # (B, h, w)
    size = error.shape[-2:]
    letters, objects = near_letters(glyph_images(batch.glyphs), size), object_cover(batch, size)
    weight = pixel_weights(letters, objects, settings.text_weight, settings.object_weight)
    return (noised.loss_weight * (weight * error).mean(dim=(1, 2))).mean()


Branches = tuple[bool, ...]
"""For each evaluation of the network in a step, whether it has the text."""


def guided(
    predict: Callable[[Tensor, Tensor, Branches], Tensor], sampler: ImageSampler, schedule: Schedule
) -> Denoiser:
    """Return a denoiser with classifier-free guidance, which evaluates both branches in one batch.

    Args:
        predict: (x_t (K B, ...), timesteps (K B,), K branches) -> the prediction (K B, ...), branch by branch.
        sampler: scale and interval.
        schedule: the forward process.
    """
    guidance = sampler.guidance

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        now = guidance
        if guidance.interval != ALWAYS:  # otherwise t is not read: a GPU would have to be waited for
            now = guidance.at(noise_time(schedule, t[0].item()))
        texts = tuple(branch.text for branch in now.branches)
        many = len(texts)
        predicted = predict(x.repeat(many, *[1] * (x.ndim - 1)), t.repeat(many), texts)
        return now.combine(predicted.float().chunk(many))

    return denoise
