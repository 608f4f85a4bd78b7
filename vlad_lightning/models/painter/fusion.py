"""Eq. 7: time-dependent fusion of the noisy latent, the layout's latent and the text; and of a region's latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class LatentFusion(ModelMixin, ConfigMixin):
    """W_t Concat(x_t, z_t, t), W_t a 1x1 convolution whose input channels are scaled by the time embedding.

    It starts as the identity on x_t (and zero on further output channels), so a pretrained image generator starts
    unchanged. An image generator whose weights for the further channels are zero needs them open from the
    start: :meth:`open_further`.

    Args:
        latent_channels: C_z of x_t.
        layout_channels: C of z_t; 0 is the system without hierarchical guidance.
        text_width: D of the pooled t.
        out_channels: channels of the fused latent, the image generator's ``in_channels``; None means
            ``latent_channels``.
        time_width: width of the time embedding.
        starts_open: call :meth:`open_further` at the start, for an image generator that is not pretrained.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        layout_channels: int,
        text_width: int,
        out_channels: int | None = None,
        time_width: int = 64,
        starts_open: bool = False,
    ) -> None:
        super().__init__()
        out_channels = out_channels or latent_channels
        if out_channels < latent_channels:
            raise ValueError(f"out_channels is {out_channels}; it must be at least latent_channels, {latent_channels}")
        inputs = latent_channels + layout_channels + text_width
        self.frequencies = Timesteps(time_width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(time_width, time_width)
        self.modulation = nn.Linear(time_width, inputs)
        self.text_norm = nn.LayerNorm(text_width)
        self.weight = nn.Parameter(torch.zeros(out_channels, inputs))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if starts_open:
            self.open_further()

    @torch.no_grad()
    def open_further(self) -> None:
        """Draw the weights of z_t and t for the further output channels, for a network that reads these through zeros.

        A product of two factors at zero has no gradient, so one of the two must not be zero. The layout's part has
        orthonormal rows or columns: it keeps all of z_t if there is room. The normalised t adds about unit variance.
        """
        space, text = self.config.latent_channels, self.config.text_width
        further = self.weight[space:]
        if self.config.layout_channels:
            nn.init.orthogonal_(further[:, space:-text])
        further[:, -text:].normal_(std=text**-0.5)

    def forward(self, x_t: Tensor, timesteps: Tensor, layout: Tensor | None, text: Tensor) -> Tensor:
        """Fuse x_t, z_t and t.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,) int64, or float32 for flow matching.
            layout: (B, C, h, w) float, z_t; None if ``layout_channels`` is 0.
            text: (B, D) float, the pooled t.

        Returns:
            (B, out_channels, h, w) float; exactly x_t in the first C_z channels before training.
        """
        modulation = self.modulation(self.time(self.frequencies(timesteps).to(self.weight.dtype)))
        weight = self.weight * (1 + modulation)[:, None, :]  # (B, out, in)
        space = x_t if layout is None else torch.cat([x_t, layout], dim=1)  # (B, C_z + C, h, w)
        channels = space.shape[1]
        mixed = torch.einsum("boi,bihw->bohw", weight[..., :channels], space)
        # t is the same at every position, so its part of the convolution is one product per sample
        text_part = (
            torch.einsum("boi,bi->bo", weight[..., channels:], self.text_norm(text.to(weight.dtype))) + self.bias
        )
        padding = len(self.weight) - x_t.shape[1]
        return F.pad(x_t, (0, 0, 0, 0, 0, padding)) + mixed + text_part[..., None, None]


class InpaintingFusion(ModelMixin, ConfigMixin):
    """Further channels of Eq. 7's Concat: the region's mask and the latent of the known part of the picture.

    W_t Concat(x_t, z_t, t, m, x_m) = W_t Concat(x_t, z_t, t) + W'_t Concat(m, x_m): the second term is this module, so
    an image generator without it, and its checkpoints, stay as they are. Like TextDiffuser's (arXiv 2305.10855) further
    channels, W' starts at zero.

    Args:
        latent_channels: C_z of x_m.
        out_channels: channels of the fused latent, those of
            :class:`~vlad_lightning.models.painter.fusion.LatentFusion`.
        time_width: width of the time embedding.
    """

    @register_to_config
    def __init__(self, latent_channels: int, out_channels: int, time_width: int = 64) -> None:
        super().__init__()
        self.frequencies = Timesteps(time_width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(time_width, time_width)
        self.modulation = nn.Linear(time_width, 1 + latent_channels)
        self.weight = nn.Parameter(torch.zeros(out_channels, 1 + latent_channels))

    def forward(self, masked_latents: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the term that is added to the fused latent.

        Args:
            masked_latents: (B, 1 + C_z, h, w) float: m, 1 in the region and 0 where the picture is known, then x_m.
            timesteps: (B,) int64.

        Returns:
            (B, out_channels, h, w) float; zero before training.
        """
        modulation = self.modulation(self.time(self.frequencies(timesteps).to(self.weight.dtype)))
        weight = self.weight * (1 + modulation)[:, None, :]  # (B, out, 1 + C_z)
        return torch.einsum("boi,bihw->bohw", weight, masked_latents)
