"""The networks that a VFE may hold, behind one interface: an adapter for each family of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor

from vlad_lightning.models.painter.attention import check_fusable, fused_qkv, read_masks
from vlad_lightning.models.painter.cache import reuse_deep_features
from vlad_lightning.types import Conditioning

_PIXELS = 8  # image pixels per latent pixel along a side, in SDXL's autoencoders


class Backbone(Protocol):
    """A denoising network conditioned by a :class:`~vlad_lightning.types.Conditioning`."""

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        ...

    @property
    def added_width(self) -> int | None:
        """E of ``Conditioning.text_embeds``; None if the network reads none."""
        ...

    @property
    def sides(self) -> tuple[int, int | None]:
        """A number that h and w must be multiples of, and the most that each may be; None has no limit."""
        ...

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict (B, C_z, h, w) from (B, in_channels, h, w) at timesteps (B,)."""
        ...

    def check(self, cache_interval: int, fuse_qkv: bool = False) -> None:
        """Refuse settings of :meth:`sampling` that do not fit this network as it is now.

        Raises:
            ValueError: for a ``cache_interval`` above 1 if the network has no deep blocks, or for ``fuse_qkv`` if its
                projections cannot be fused (:func:`~vlad_lightning.models.painter.attention.check_fusable`).
        """
        ...

    def sampling(self, cache_interval: int, fuse_qkv: bool) -> AbstractContextManager[Callable[[], None]]:
        """Return the context of one sampling run; it gives a function to call before the batch or conditions change.

        Args:
            cache_interval: features of one call are reused in the next ``cache_interval`` - 1 calls; 1 reuses nothing.
            fuse_qkv: see :func:`~vlad_lightning.models.painter.attention.fused_qkv`.

        Raises:
            ValueError: see :meth:`check`.
        """
        ...


@dataclass(frozen=True)
class UNetBackbone:
    """A ``UNet2DConditionModel`` that cross-attends to the token states.

    SDXL's UNet adds a text embedding, from the conditioning, and sizes, from the latent, to its time embedding.

    Attributes:
        unet: the network.

    Raises:
        ValueError: if it needs conditions that are not supported here.
    """

    unet: UNet2DConditionModel

    def __post_init__(self) -> None:
        kind = self.unet.config.addition_embed_type
        if kind not in (None, "text_time"):
            raise ValueError(f"the unet's addition_embed_type is {kind!r}; allowed are None and 'text_time' (SDXL)")

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        return int(self.unet.config.in_channels)

    @property
    def added_width(self) -> int | None:
        """See :class:`Backbone`."""
        config = self.unet.config
        if config.addition_embed_type is None:
            return None
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)

    @property
    def sides(self) -> tuple[int, None]:
        """See :class:`Backbone`; any: what a level rounds up is cut off again."""
        return 1, None

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See :class:`Backbone`."""
        return self.unet(
            fused,
            timesteps,
            encoder_hidden_states=conditioning.tokens,
            encoder_attention_mask=conditioning.read_mask,
            added_cond_kwargs=self._added(fused, conditioning),
        ).sample

    def _added(self, fused: Tensor, conditioning: Conditioning) -> dict[str, Tensor] | None:
        """Return SDXL's further conditions: the text embedding, and (height, width) before and after cropping.

        The data module resizes and does not crop, so both sizes are the image's and the crop's corner is (0, 0).
        """
        if self.added_width is None:
            return None
        if conditioning.text_embeds is None:
            raise ValueError("the unet adds a text embedding to its time embedding; the conditioning has none")
        height, width = (side * _PIXELS for side in fused.shape[-2:])
        sides = (height, width, 0, 0, height, width)  # filled in on the device: a list would have to be copied there
        sizes = [torch.full((len(fused),), float(side), dtype=torch.float32, device=fused.device) for side in sides]
        return {"text_embeds": conditioning.text_embeds, "time_ids": torch.stack(sizes, dim=1)}

    def check(self, cache_interval: int, fuse_qkv: bool = False) -> None:
        """See :class:`Backbone`; only a UNet of several levels has deep blocks."""
        if fuse_qkv:
            check_fusable(self.unet)
        if cache_interval > 1 and len(self.unet.config.block_out_channels) < 2:
            raise ValueError(f"cache_interval is {cache_interval}; it must be 1 for a UNet of a single level")

    @contextmanager
    def sampling(self, cache_interval: int, fuse_qkv: bool) -> Iterator[Callable[[], None]]:
        """See :func:`~vlad_lightning.models.painter.cache.reuse_deep_features` for the cache."""
        self.check(cache_interval, fuse_qkv)
        with reuse_deep_features(self.unet, cache_interval) as forget, fused_qkv(self.unet, fuse_qkv):
            yield forget


@dataclass(frozen=True)
class TransformerBackbone:
    """The MM-DiT of Stable Diffusion 3 (arXiv 2403.03206).

    It attends jointly to latent patches and token states; time and the pooled t modulate its layers.

    Attributes:
        transformer: the network; its attention gets a processor that applies masks.
    """

    transformer: SD3Transformer2DModel

    def __post_init__(self) -> None:
        read_masks(self.transformer)

    @property
    def in_channels(self) -> int:
        """Channels of the fused latent."""
        return int(self.transformer.config.in_channels)

    @property
    def added_width(self) -> None:
        """None: the transformer reads the pooled t, whatever its width."""
        return None

    @property
    def sides(self) -> tuple[int, int]:
        """See :class:`Backbone`; whole patches, at places that have an embedding."""
        config = self.transformer.config
        return int(config.patch_size), int(config.patch_size * config.pos_embed_max_size)

    def __call__(self, fused: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See :class:`Backbone`."""
        mask = conditioning.read_mask
        return self.transformer(
            fused,
            encoder_hidden_states=conditioning.tokens,
            pooled_projections=conditioning.pooled,
            timestep=timesteps,
            joint_attention_kwargs=None if mask is None else {"attention_mask": mask},
        ).sample

    def check(self, cache_interval: int, fuse_qkv: bool = False) -> None:
        """See :class:`Backbone`; a transformer has no deep blocks."""
        if fuse_qkv:
            check_fusable(self.transformer)
        if cache_interval > 1:
            raise ValueError(f"cache_interval is {cache_interval}; it must be 1 for a transformer, which has one level")

    @contextmanager
    def sampling(self, cache_interval: int, fuse_qkv: bool) -> Iterator[Callable[[], None]]:
        """See :class:`Backbone`; nothing is reused."""
        self.check(cache_interval, fuse_qkv)
        with fused_qkv(self.transformer, fuse_qkv):
            yield lambda: None
