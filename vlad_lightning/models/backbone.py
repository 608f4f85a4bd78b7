"""The networks a VFE may hold, behind one call: an adapter for each family of diffusers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor

from vlad_lightning.models.feature_cache import reuse_deep_features
from vlad_lightning.types import Conditioning


class Backbone(Protocol):
    """A denoising network told by a :class:`~vlad_lightning.types.Conditioning`."""

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        ...

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """(B, in_channels, h, w) at timesteps (B,) -> the prediction (B, C_z, h, w)."""
        ...

    def cached(self, interval: int) -> AbstractContextManager[None]:
        """Within the context, features of one call serve the next ``interval`` - 1 calls; 1 reuses nothing.

        Raises:
            ValueError: where this family has no such cache and ``interval`` is above 1.
        """
        ...


@dataclass(frozen=True)
class UNetBackbone:
    """A ``UNet2DConditionModel`` that cross-attends to the token states.

    Attributes:
        unet: the network.
    """

    unet: UNet2DConditionModel

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        return int(self.unet.config.in_channels)

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See :class:`Backbone`."""
        return self.unet(fused, timesteps, encoder_hidden_states=conditioning.tokens).sample

    def cached(self, interval: int) -> AbstractContextManager[None]:
        """See :func:`~vlad_lightning.models.feature_cache.reuse_deep_features`."""
        return reuse_deep_features(self.unet, interval)


@dataclass(frozen=True)
class TransformerBackbone:
    """The MM-DiT of Stable Diffusion 3 (arXiv 2403.03206).

    It attends jointly to latent patches and token states; time and the pooled t modulate its layers.

    Attributes:
        transformer: the network.
    """

    transformer: SD3Transformer2DModel

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        return int(self.transformer.config.in_channels)

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See :class:`Backbone`."""
        return self.transformer(
            fused,
            encoder_hidden_states=conditioning.tokens,
            pooled_projections=conditioning.pooled,
            timestep=timesteps,
        ).sample

    def cached(self, interval: int) -> AbstractContextManager[None]:
        """Nothing is reused."""
        if interval > 1:
            raise ValueError(
                f"cache_interval is {interval}; it must be 1 for a transformer: only UNets have deep blocks"
            )
        return nullcontext()
