"""Inpainting with a network that was not trained for it: blended diffusion, and a ground that fits the picture's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule, objective_for
from vlad_lightning.diffusion.sampler import Denoiser

_NEAR = 1 / 8  # of the larger side: how far from the region the network's error is compared


def blended(denoiser: Denoiser, picture: Tensor, region: Tensor, schedule: Schedule) -> Denoiser:
    """Return a denoiser that generates a region into a picture.

    Outside the region the prediction is the one that leads to the picture, so that the network sees it noised, as in
    blended latent diffusion (arXiv 2206.02779). Inside, x0 is corrected by the error that the network makes outside,
    continued smoothly: at high noise the network chooses a ground by the prompt alone, and guidance exaggerates its
    colours everywhere; what is wrong next to the region is wrong in it. As the noise falls, so does the error.

    Args:
        denoiser: predicts the whole image.
        picture: (B, C, h, w) float, the latent of the pictures.
        region: (B, 1, h, w) bool, True where the image is generated.
        schedule: what the prediction means.
    """
    objective = objective_for(schedule)
    reach = max(1, round(_NEAR * max(region.shape[-2:])))
    near = F.max_pool2d(region.to(picture), 2 * reach + 1, stride=1, padding=reach).bool() & ~region

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = objective.x0_of(denoiser(x, t), x, t)
        error = picture - x0
        fitted = x0 + continued(error, _usual(error, near).masked_fill(region, 0))
        return objective.prediction_of(torch.where(region, fitted, picture), x, t)

    return denoise


def _usual(error: Tensor, near: Tensor) -> Tensor:
    """Return weights in (0, 1], (B, 1, h, w): near 0 where the error is far from its median near the region.

    There an object of the picture stands that the network does not expect, whose colour is none of the ground's.
    """
    median = _median(error, near)
    distance = (error - median).square().mean(dim=1, keepdim=True)
    return 1 / (1 + (distance / _median(distance, near).clamp(min=1e-6)).square())


def _median(values: Tensor, mask: Tensor) -> Tensor:
    """Return the median over the mask of each channel, (B, C, 1, 1); 0 for an empty mask."""
    return values.masked_fill(~mask, torch.nan).flatten(2).nanmedian(dim=2).values[..., None, None].nan_to_num(0.0)


def continued(values: Tensor, weights: Tensor) -> Tensor:
    """Continue values smoothly over a grid, by the pull-push algorithm (Gortler et al. 1996).

    Weighted means of 2 x 2 cells fill coarser and coarser grids; each grid's cells are then interpolated from the next
    coarser one as far as their own weight leaves room.

    Args:
        values: (B, C, h, w) float; not read where the weight is 0.
        weights: (B, 1, h, w) float in [0, 1].

    Returns:
        (B, C, h, w) float: the values where the weight is 1, and others between them; 0 for a sample without weights.
    """
    values = torch.where(weights > 0, values, 0)
    if max(values.shape[-2:]) == 1:
        return values
    pooled, shares = (F.avg_pool2d(part, 2, ceil_mode=True) for part in (values * weights, weights))
    coarse = continued(pooled / shares.clamp(min=1e-9), (4 * shares).clamp(max=1))
    filled = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
    return weights * values + (1 - weights) * filled
