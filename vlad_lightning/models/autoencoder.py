"""Image autoencoders: pixels to latents and back, behind two methods."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors.numpy import load_file
from torch import Tensor

_POSTER_DIRECTIONS = (  # for red, green and blue: the upper two pixels, then the lower two; rows give unit variance
    (0.2390, 0.2388, 0.2388, 0.2391, 0.1940, 0.1938, 0.1939, 0.1942, 0.1368, 0.1366, 0.1366, 0.1368),
    (-0.2222, -0.2220, -0.2220, -0.2219, 0.0281, 0.0282, 0.0281, 0.0282, 0.3481, 0.3481, 0.3481, 0.3483),
    (0.3585, 0.3598, 0.3595, 0.3605, -0.6425, -0.6409, -0.6410, -0.6399, 0.2805, 0.2811, 0.2811, 0.2817),
    (-0.8975, 0.9606, -0.9608, 0.8950, -0.8528, 0.9169, -0.9138, 0.8546, -0.5865, 0.6240, -0.6256, 0.5842),
)
_SLICE = 4  # images that go through a KL autoencoder at a time: at 512 px, one activation of one image can take 134 MB
_DIRECTIONS_4 = Path(__file__).with_name("linear_directions_4.safetensors")  # (16, 48), written by the benchmark


class Autoencoder(Protocol):
    """The interface that the image generator needs of an autoencoder, which is always frozen."""

    latent_channels: int

    @property
    def factor(self) -> int:
        """Pixels for each position of a latent, along a side."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) in [-1, 1] as (B, C_z, h, w) of about unit variance."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode (B, C_z, h, w) to (B, 3, H, W), in [-1, 1] up to the latents' error."""


class SpaceToDepth(ModelMixin, ConfigMixin):
    """A lossless autoencoder without weights: each ``factor`` x ``factor`` block of pixels becomes channels.

    Args:
        factor: the side of a block; H and W must be multiples of it.
        gain: the latents are the pixels times this; natural images in [-1, 1] have a deviation of about 0.5.
    """

    @register_to_config
    def __init__(self, factor: int = 2, gain: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.latent_channels = 3 * factor**2
        self.register_buffer("scale", torch.tensor(float(gain)))  # a tensor, so that the module has a device

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) as (B, 3 factor^2, H / factor, W / factor)."""
        return F.pixel_unshuffle(images, self.factor) * self.scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode (B, 3 factor^2, h, w) to (B, 3, h factor, w factor)."""
        return F.pixel_shuffle(latents / self.scale, self.factor)


class LinearAutoencoder(ModelMixin, ConfigMixin):
    """A lossy autoencoder: each block of pixels becomes a few numbers, its projection on fixed directions.

    It replaces a learned autoencoder if none is available: like Stable Diffusion's, its latents are about normal, and a
    glyph map uses all of their channels. The directions are the strongest principal components of posters
    (``benchmarks/linear_codec.py``), of plain ones for blocks of 2 x 2 and of rich ones for 4 x 4:

    ========  ==========  ========================================================================
    factor    channels    scale of a direction
    ========  ==========  ========================================================================
    2         4           unit variance
    4         16          mean variance 1; the deviations are the roots of those of the components
    ========  ==========  ========================================================================

    Args:
        factor: the side of a block, 2 or 4; H and W must be multiples of it.

    Raises:
        ValueError: if ``factor`` is neither.
    """

    @register_to_config
    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        if factor not in (2, 4):
            raise ValueError(f"factor is {factor}; allowed are 2 and 4")
        directions = np.array(_POSTER_DIRECTIONS) if factor == 2 else load_file(_DIRECTIONS_4)["directions"]
        self.factor = factor
        self.latent_channels = len(directions)
        # as lists: on the meta device no tensor can be made of an array
        self.register_buffer("directions", torch.tensor(directions.tolist()))
        self.register_buffer("inverse", torch.tensor(np.linalg.pinv(directions.astype(np.float64)).tolist()))

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) as (B, C_z, H / factor, W / factor)."""
        return torch.einsum("oi,bihw->bohw", self.directions, F.pixel_unshuffle(images, self.factor))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode (B, C_z, h, w) to (B, 3, factor h, factor w): the smallest blocks with these latents."""
        return F.pixel_shuffle(torch.einsum("io,bohw->bihw", self.inverse, latents), self.factor)


class KLAutoencoder(AutoencoderKL):
    """Stable Diffusion's autoencoder: same config, same weights, the two methods of :class:`Autoencoder` added.

    They take a large batch in slices, so that its memory does not grow with the batch.
    """

    @property
    def latent_channels(self) -> int:
        """C_z."""
        return int(self.config.latent_channels)

    @property
    def factor(self) -> int:
        """Pixels for each position of a latent, along a side: every block but the last halves the image."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) as (B, 4, H / 8, W / 8): the mode of the posterior, scaled to about unit variance."""
        modes = [self.encode(part).latent_dist.mode() for part in images.split(_SLICE)]
        return torch.cat(modes) * self.config.scaling_factor

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode (B, 4, h, w) to (B, 3, 8 h, 8 w)."""
        return torch.cat([self.decode(part).sample for part in (latents / self.config.scaling_factor).split(_SLICE)])


def build_kl_autoencoder(
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
    layers_per_block: int = 2,
    latent_channels: int = 4,
    norm_num_groups: int = 32,
    sample_size: int = 512,
    scaling_factor: float = 0.18215,
) -> KLAutoencoder:
    """Build a :class:`KLAutoencoder` with random weights; the defaults are Stable Diffusion 1.5's.

    Configurations name this function instead of the class, whose type hints allow only a single block.

    Args:
        block_out_channels: channels of each block of the encoder and of the decoder; all but one halve the image.
        layers_per_block: residual layers per block.
        latent_channels: C_z.
        norm_num_groups: groups of the group norms.
        sample_size: side of the images it was trained on, in pixels.
        scaling_factor: brings the latents to about unit variance.
    """
    blocks = len(block_out_channels)
    return KLAutoencoder(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=block_out_channels,
        layers_per_block=layers_per_block,
        latent_channels=latent_channels,
        norm_num_groups=norm_num_groups,
        sample_size=sample_size,
        scaling_factor=scaling_factor,
    )
