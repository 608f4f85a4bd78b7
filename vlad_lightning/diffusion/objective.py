"""The training objectives DDPM and flow matching; the class of the diffusers schedule decides between them."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.noising import (
    Noised,
    add_noise,
    draw_timesteps,
    draw_uniform,
    implied_prediction,
    predicted_x0,
    widened,
)
from vlad_lightning.limits import MOST_TIMESTEPS, check_whole

Schedule: TypeAlias = DDPMScheduler | FlowMatchEulerDiscreteScheduler
TimestepDensity = Literal["uniform", "logit_normal"]

_PREDICTIONS = ("epsilon", "sample", "v_prediction")
_OF_FLOW = ("num_train_timesteps", "shift")  # the only settings of rectified flow with one shift for all images
_FLOW_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(FlowMatchEulerDiscreteScheduler.__init__).parameters.items()
    if name != "self"
}


class Objective(Protocol):
    """A forward process and the target of its loss."""

    def draw_timesteps(self, generators: SampleGenerators) -> Tensor:
        """Draw (B,) timesteps in the form that the network gets: int64 for DDPM, float32 for flow matching."""
        ...

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Noised:
        """Noise x0 (B, ...) to ``timesteps`` (B,) with standard normal noise (B, ...)."""
        ...

    def last_timesteps(self, size: int) -> Tensor:
        """Return the noisiest timestep ``size`` times, (size,), in the form that the network gets."""
        ...

    def x0_of(self, prediction: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the x0 that a prediction implies: (B, ...) float32."""
        ...

    def prediction_of(self, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the prediction that implies this x0: (B, ...) float32."""
        ...


@dataclass(frozen=True)
class DDPM:
    """The forward process of Eq. 4; its target is epsilon, v or x0, according to the schedule's config.

    Attributes:
        schedule: its config holds the schedule and ``prediction_type``.
        density: the distribution of the timesteps.
        timestep_shift: see :func:`~vlad_lightning.diffusion.noising.draw_uniform`.
        snr_gamma: see :func:`~vlad_lightning.diffusion.noising.add_noise`.
    """

    schedule: DDPMScheduler
    density: TimestepDensity = "uniform"
    timestep_shift: float = 0.0
    snr_gamma: float = 5.0

    def draw_timesteps(self, generators: SampleGenerators) -> Tensor:
        """Draw (B,) int64 in [0, T)."""
        steps = self.schedule.config.num_train_timesteps
        if self.density == "uniform":
            return draw_timesteps(generators, steps, self.timestep_shift)
        t = logit_normal(draw_uniform(generators, self.timestep_shift))
        return (t * steps).long().clamp(max=steps - 1)

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Noised:
        """Noise x0, see :func:`~vlad_lightning.diffusion.noising.add_noise`."""
        return add_noise(self.schedule, x0, noise, timesteps, self.snr_gamma)

    def last_timesteps(self, size: int) -> Tensor:
        """Return T - 1, (size,) int64."""
        return torch.full((size,), self.schedule.config.num_train_timesteps - 1)

    def x0_of(self, prediction: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute x0, see :func:`~vlad_lightning.diffusion.noising.predicted_x0`."""
        return predicted_x0(self.schedule, prediction, x_t, timesteps)

    def prediction_of(self, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute epsilon, v or x0, see :func:`~vlad_lightning.diffusion.noising.implied_prediction`."""
        return implied_prediction(self.schedule, x0, x_t, timesteps)


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow (arXiv 2209.03003): x_t = (1 - t) x_0 + t noise, the target is the velocity noise - x_0.

    Times are continuous in [0, 1] and shifted as in arXiv 2403.03206, Eq. 23: t -> s t / (1 + (s - 1) t), s the
    ``shift`` of the schedule. The error has the same weight at every time; the density of the times does the weighting.

    Attributes:
        schedule: its config holds ``shift`` and T = ``num_train_timesteps``; the network gets t times T.
        density: the distribution of t before the shift; ``logit_normal`` is sigmoid(N(0, 1)), Eq. 19 of that paper.
        timestep_shift: see :func:`~vlad_lightning.diffusion.noising.draw_uniform`.

    Raises:
        ValueError: see :func:`check_flow`.
    """

    schedule: FlowMatchEulerDiscreteScheduler
    density: TimestepDensity = "logit_normal"
    timestep_shift: float = 0.0

    def __post_init__(self) -> None:
        check_flow(self.schedule)

    def draw_timesteps(self, generators: SampleGenerators) -> Tensor:
        """Draw (B,) float32 in [0, T]."""
        u = draw_uniform(generators, self.timestep_shift)
        t = logit_normal(u) if self.density == "logit_normal" else u
        shift = self.schedule.config.shift
        return shift * t / (1 + (shift - 1) * t) * self.schedule.config.num_train_timesteps

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Noised:
        """Compute x_t and the target noise - x_0 in float32 or better, with weight 1."""
        x0 = widened(x0)
        t = (timesteps.to(x0.dtype) / self.schedule.config.num_train_timesteps).view(-1, *[1] * (x0.ndim - 1))
        loss_weight = torch.ones(len(x0), device=x0.device)
        return Noised((1 - t) * x0 + t * noise, noise - x0, loss_weight)

    def last_timesteps(self, size: int) -> Tensor:
        """Return T, (size,) float32."""
        return torch.full((size,), float(self.schedule.config.num_train_timesteps))

    def x0_of(self, prediction: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute x_t - t v."""
        return x_t.float() - self._times(timesteps, x_t) * prediction.float()

    def prediction_of(self, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Compute (x_t - x_0) / t, for t > 0."""
        return (x_t.float() - x0.float()) / self._times(timesteps, x_t)

    def _times(self, timesteps: Tensor, x: Tensor) -> Tensor:
        """Return t in [0, 1], (B, 1, ...) float32 with as many dimensions as ``x``."""
        return (timesteps.float() / self.schedule.config.num_train_timesteps).view(-1, *[1] * (x.ndim - 1))


def objective_for(
    schedule: Schedule, density: TimestepDensity | None = None, timestep_shift: float = 0.0, snr_gamma: float = 5.0
) -> Objective:
    """Return the objective for a schedule.

    Args:
        schedule: a ``FlowMatchEulerDiscreteScheduler`` gives :class:`FlowMatching`, any other :class:`DDPM`.
        density: the distribution of the timesteps; None means logit-normal for flow matching and uniform for DDPM.
        timestep_shift: see :func:`~vlad_lightning.diffusion.noising.draw_uniform`.
        snr_gamma: only for DDPM; flow matching weighs all times alike.
    """
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        return FlowMatching(schedule, density or "logit_normal", timestep_shift)
    return DDPM(schedule, density or "uniform", timestep_shift, snr_gamma)


def noise_time(schedule: Schedule, timestep: float) -> float:
    """Compute t / T of a timestep in the form that the network gets: 1 is pure noise, and data would be 0.

    For DDPM, t counts from 1 to T as in Eq. 4, and the network gets t - 1. For flow matching it is the share of the
    noise, after the ``shift``; its float32 is rounded to 6 digits, so that 0.3 is the 0.3 that a user types.
    """
    total: int = schedule.config.num_train_timesteps
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        return round(timestep / total, 6)
    return (timestep + 1) / total


def check_rescale(schedule: Schedule, rescale: float) -> None:
    """Refuse rescaled guidance for a prediction that is mostly noise.

    Section 3.4 of arXiv 2305.08891 mends overexposure of networks that predict v with zero terminal SNR, where v is
    -x0; x0 itself is the same case. Epsilon and the velocity of flow matching have the noise's deviation, whatever
    the exposure of x0, and a factor below 1 on them would leave noise in the picture.

    Raises:
        ValueError: if ``rescale`` is above 0 and the schedule predicts neither x0 nor v.
    """
    flow = isinstance(schedule, FlowMatchEulerDiscreteScheduler)
    kind = "the velocity of flow matching" if flow else repr(schedule.config.prediction_type)
    if rescale > 0 and kind not in ("'sample'", "'v_prediction'"):
        raise ValueError(
            f"guidance_rescale is {rescale}; it must be 0 for a schedule that predicts {kind}, whose deviation is "
            "mostly that of the noise ('sample' and 'v_prediction' can be rescaled)"
        )


def logit_normal(u: Tensor) -> Tensor:
    """Compute quantiles of sigmoid(N(0, 1)): (B,) in [0, 1] -> (B,) in [0, 1]."""
    return torch.special.ndtri(u).sigmoid()


def check_schedule(schedule: Schedule) -> None:
    """Refuse a schedule that a network cannot be trained on.

    Raises:
        ValueError: if the number of timesteps is not in 1 to 100,000; for flow matching, see :func:`check_flow`; for
            DDPM, if ``prediction_type`` is unknown, or is ``epsilon`` while the last step has no signal: there the
            noise is the input itself, so no sampler can recover the data from it.
    """
    check_whole("schedule.num_train_timesteps", schedule.config.num_train_timesteps, 1, MOST_TIMESTEPS)
    if isinstance(schedule, FlowMatchEulerDiscreteScheduler):
        check_flow(schedule)
        return
    kind = schedule.config.prediction_type
    if kind not in _PREDICTIONS:
        raise ValueError(f"schedule.prediction_type is {kind!r}; allowed are {', '.join(map(repr, _PREDICTIONS))}")
    signal = schedule.alphas_cumprod[-1]
    if kind == "epsilon" and not signal.is_meta and signal == 0:  # tensors on the meta device have no values
        raise ValueError(
            "schedule.prediction_type is 'epsilon' with rescale_betas_zero_snr; "
            "a zero terminal SNR needs 'v_prediction' or 'sample'"
        )


def check_flow(schedule: FlowMatchEulerDiscreteScheduler) -> None:
    """Refuse a schedule other than x_t = (1 - t) x_0 + t noise with one shift for all images.

    Raises:
        ValueError: if ``shift`` is not positive, or the schedule sets anything but ``shift`` and
            ``num_train_timesteps``: the training would ignore that setting, and the samplers would use times that
            were not trained.
    """
    for name, default in _FLOW_DEFAULTS.items():
        if name not in _OF_FLOW and (value := schedule.config.get(name, default)) != default:
            raise ValueError(f"schedule.{name} is {value}; it must be {default} (a fixed `shift` is allowed)")
    if not 0 < schedule.config.shift < math.inf:
        raise ValueError(f"schedule.shift is {schedule.config.shift}; it must be above 0")
