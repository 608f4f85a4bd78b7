"""The third use of the painter: a region of a picture is painted and the rest is given (inpainting)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class RegionFusion(ModelMixin, ConfigMixin):
    """Further channels of Eq. 7's Concat: the region's mask and the latent of what is known.

    W_t Concat(x_t, z_t, t, m, x_m) = W_t Concat(x_t, z_t, t) + W'_t Concat(m, x_m): the second term is this module, so
    a painter without it, and its checkpoints, stay as they are. As TextDiffuser's (arXiv 2305.10855) further channels,
    W' starts at zero.

    Args:
        latent_channels: C_z of x_m.
        out_channels: channels of the fused latent, those of :class:`~vlad_lightning.models.fusion.LatentFusion`.
        time_width: width of the time embedding.
    """

    @register_to_config
    def __init__(self, latent_channels: int, out_channels: int, time_width: int = 64) -> None:
        super().__init__()
        self.frequencies = Timesteps(time_width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(time_width, time_width)
        self.modulation = nn.Linear(time_width, 1 + latent_channels)
        self.weight = nn.Parameter(torch.zeros(out_channels, 1 + latent_channels))

    def forward(self, known: Tensor, timesteps: Tensor) -> Tensor:
        """What is added to the fused latent.

        Args:
            known: (B, 1 + C_z, h, w) float: m, 1 in the region and 0 where the picture is known, then x_m.
            timesteps: (B,) int64.

        Returns:
            (B, out_channels, h, w) float; zero before training.
        """
        modulation = self.modulation(self.time(self.frequencies(timesteps).to(self.weight.dtype)))
        weight = self.weight * (1 + modulation)[:, None, :]  # (B, out, 1 + C_z)
        return torch.einsum("boi,bihw->bohw", weight, known)
