"""Inpainting with a network that was not trained for it: blended diffusion, and a ground that fits the picture's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.diffusion.objective import Schedule, objective_for
from vlad_lightning.diffusion.sampler import Denoiser


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

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = objective.x0_of(denoiser(x, t), x, t)
        fitted = x0 + continued(picture - x0, ~region)
        return objective.prediction_of(torch.where(region, fitted, picture), x, t)

    return denoise


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Continue known values smoothly over a grid, by the pull-push algorithm (Gortler et al. 1996).

    Means of the known values of 2 x 2 cells fill coarser and coarser grids, until no cell is empty; each grid's empty
    cells are then interpolated from the next coarser one.

    Args:
        values: (B, C, h, w) float; what is not known is not read.
        known: (B, 1, h, w) bool.

    Returns:
        (B, C, h, w) float: the known values, and others between them; 0 for a sample without any.
    """
    share = known.to(values)
    values = values.masked_fill(~known, 0)
    if max(values.shape[-2:]) == 1:
        return values
    pooled, shares = (F.avg_pool2d(part, 2, ceil_mode=True) for part in (values, share))
    coarse = continued(pooled / shares.clamp(min=1e-6), shares > 0)
    filled = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, values, filled)
