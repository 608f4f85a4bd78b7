"""Image codecs: pixels to latents and back, behind two methods."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor


class Codec(Protocol):
    """What the painter needs of a codec; it is always frozen."""

    latent_channels: int

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, C_z, h, w), about unit variance."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, C_z, h, w) -> (B, 3, H, W), in [-1, 1] up to the latents' error."""


class SpaceToDepthCodec(ModelMixin, ConfigMixin):
    """A lossless codec without weights: each ``factor`` x ``factor`` block of pixels becomes channels.

    Args:
        factor: the side of a block; H and W must be its multiples.
        gain: the latents are the pixels times this; natural images in [-1, 1] have a deviation of about 0.5.
    """

    @register_to_config
    def __init__(self, factor: int = 2, gain: float = 1.0) -> None:
        super().__init__()
        self.latent_channels = 3 * factor**2
        self.register_buffer("scale", torch.tensor(float(gain)))  # a tensor, so that the module has a device

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3 factor^2, H / factor, W / factor)."""
        return F.pixel_unshuffle(images, self.config.factor) * self.scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, 3 factor^2, h, w) -> (B, 3, h factor, w factor)."""
        return F.pixel_shuffle(latents / self.scale, self.config.factor)


class KLCodec(AutoencoderKL):
    """Stable Diffusion's autoencoder: same config, same weights, the two methods of :class:`Codec` added."""

    @property
    def latent_channels(self) -> int:
        """C_z."""
        return int(self.config.latent_channels)

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4, H / 8, W / 8): the mode of the posterior, scaled to about unit variance."""
        return self.encode(images).latent_dist.mode() * self.config.scaling_factor

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) -> (B, 3, 8 h, 8 w)."""
        return self.decode(latents / self.config.scaling_factor).sample
