"""The forward process (Eq. 4) and the weights of L_diff (Eq. 9), with diffusers' schedules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators


@dataclass(frozen=True)
class Noised:
    """One draw of the forward process.

    Attributes:
        x_t: (B, ...) float32, the noised data.
        target: (B, ...) float32, the target of the network: epsilon, v or x0, according to the scheduler's config, or
            the velocity of flow matching.
        loss_weight: (B,) float32, the weight of each sample's squared error.
    """

    x_t: Tensor
    target: Tensor
    loss_weight: Tensor


def draw_uniform(generators: SampleGenerators, timestep_shift: float = 0.0) -> Tensor:
    """Draw stratified numbers in [0, 1]: [0, 1] has one equal part per row of the whole batch, in random order.

    Stratified timesteps lower the variance of the loss.

    Args:
        generators: the random generators of B rows; the result is on their device.
        timestep_shift: 0 is uniform; larger values favour the noisy end, u -> u ** (1 / (1 + timestep_shift)).

    Returns:
        (B,) float32.
    """
    return generators.strata() ** (1 / (1 + timestep_shift))


def draw_timesteps(generators: SampleGenerators, steps: int, timestep_shift: float = 0.0) -> Tensor:
    """Draw the timesteps of a batch in [0, steps), stratified as in :func:`draw_uniform`.

    Args:
        generators: the random generators of B rows; the result is on their device.
        steps: the number of steps of the schedule.
        timestep_shift: see :func:`draw_uniform`.

    Returns:
        (B,) int64.
    """
    return (draw_uniform(generators, timestep_shift) * steps).long().clamp(max=steps - 1)


def add_noise(scheduler: DDPMScheduler, x0: Tensor, noise: Tensor, timesteps: Tensor, snr_gamma: float = 5.0) -> Noised:
    """Compute x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (Eq. 4), with the target and its weight.

    The weight is min(1 + SNR, gamma) on the error of x0 (after min-SNR, arXiv 2303.09556; the 1 keeps the pure-noise
    end of a zero-terminal-SNR schedule alive), expressed for the scheduler's own target. For epsilon it is
    min(SNR, gamma) as published: epsilon's error is x0's times SNR, and with the 1 it would be weighted by 1 / SNR at
    steps that are mostly noise.

    Args:
        scheduler: its config holds the schedule and ``prediction_type``.
        x0: (B, ...) float, the data; converted to float32 or better, see :func:`widened`.
        noise: (B, ...) float, standard normal.
        timesteps: (B,) int64.
        snr_gamma: the upper bound gamma, at least 1.
    """
    x0 = widened(x0)
    x_t = scheduler.add_noise(x0, noise, timesteps)
    alpha_bar = scheduler.alphas_cumprod.to(x0.device)[timesteps].float()
    snr = alpha_bar / (1 - alpha_bar)
    loss_weight = (1 + snr).clamp(max=snr_gamma)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return Noised(x_t, x0, loss_weight)
    if kind == "v_prediction":  # x0 = sqrt(abar) x_t - sqrt(1 - abar) v
        return Noised(x_t, scheduler.get_velocity(x0, noise, timesteps), loss_weight * (1 - alpha_bar))
    return Noised(x_t, noise, (snr_gamma / snr).clamp(max=1))  # epsilon: min(SNR, gamma) / SNR


def predicted_x0(scheduler: DDPMScheduler, prediction: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """Compute the x0 that a prediction of epsilon, v or x0 implies.

    Args:
        scheduler: its config holds ``prediction_type``.
        prediction: (B, ...) float.
        x_t: (B, ...) float, the noised data that the network predicted from.
        timesteps: (B,), rounded down to whole timesteps: some solvers have others.

    Returns:
        (B, ...) float32.
    """
    prediction, x_t = prediction.float(), x_t.float()
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    alpha_bar = _alpha_bar(scheduler, timesteps, x_t)
    if kind == "v_prediction":
        return alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * prediction
    return (x_t - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()


def implied_prediction(scheduler: DDPMScheduler, x0: Tensor, x_t: Tensor, timesteps: Tensor) -> Tensor:
    """Compute the prediction of epsilon, v or x0 that implies this x0; the inverse of :func:`predicted_x0`.

    Args:
        scheduler: its config holds ``prediction_type``.
        x0: (B, ...) float.
        x_t: (B, ...) float, the noised data that the network would predict from.
        timesteps: as there.

    Returns:
        (B, ...) float32.
    """
    x0, x_t = x0.float(), x_t.float()
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return x0
    alpha_bar = _alpha_bar(scheduler, timesteps, x_t)
    if kind == "v_prediction":
        return (alpha_bar.sqrt() * x_t - x0) / (1 - alpha_bar).sqrt()
    return (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()


def _alpha_bar(scheduler: DDPMScheduler, timesteps: Tensor, x: Tensor) -> Tensor:
    """Return abar_t, (B, 1, ...) float32 with as many dimensions as ``x``."""
    return scheduler.alphas_cumprod.to(x.device)[timesteps.long()].float().view(-1, *[1] * (x.ndim - 1))


def widened(x0: Tensor) -> Tensor:
    """Convert (B, ...) to float32 or better, in which the forward process is computed.

    Under autocast an autoencoder returns bfloat16, and diffusers casts its schedule to the dtype of the data: with 8
    bits of precision the first steps of Stable Diffusion's schedule would add no noise at all.
    """
    return x0.to(torch.promote_types(x0.dtype, torch.float32))
