"""A skip connection from z_t around the denoising network, so that fine outlines need not pass through its channels."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class LayoutSkip(ModelMixin, ConfigMixin):
    """Three convolutions of the network's prediction beside x_t and z_t: what they add to that prediction.

    The fusion of Eq. 7 mixes x_t and z_t into as many channels as the network has at its full size (16 and 55 into 64
    in ``configs/rich/``), where it needs them for all else it does, too. Glyphs and stamps are pictures in z_t already,
    at the places where they are to be painted; here they reach the prediction directly. The last convolution starts at
    zero, so a trained network starts unchanged.

    Args:
        latent_channels: C_z of x_t and of the prediction.
        layout_channels: C of z_t.
        width: channels between the convolutions.
    """

    @register_to_config
    def __init__(self, latent_channels: int, layout_channels: int, width: int = 64) -> None:
        super().__init__()
        last = nn.Conv2d(width, latent_channels, 3, padding=1)
        for weight in last.parameters():
            nn.init.zeros_(weight)
        first = nn.Conv2d(2 * latent_channels + layout_channels, width, 3, padding=1)
        self.layers = nn.Sequential(first, nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), last)

    def forward(self, predicted: Tensor, x_t: Tensor, layout: Tensor) -> Tensor:
        """Compute the addition to a prediction.

        Args:
            predicted: (B, C_z, h, w) float, the network's, which tells the time step as well.
            x_t: (B, C_z, h, w) float.
            layout: (B, C, h, w) float, z_t.

        Returns:
            (B, C_z, h, w) float; zero before training.
        """
        return self.layers(torch.cat([predicted, x_t, layout], dim=1))
