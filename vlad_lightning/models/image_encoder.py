"""The vision side of the encoder: a vision tower for this package's images in [-1, 1]."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from vlad_lightning.models.conv_tower import ConvTower, VisionStates
from vlad_lightning.models.text.width_adapter import eye_linear


def build_vision_tower(
    image_size: int = 64,
    patch_size: int = 8,
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    projection: int = 128,
    activation: str = "quick_gelu",
    intermediate: int | None = None,
) -> CLIPVisionModelWithProjection:
    """Build a CLIP vision tower of transformers with random weights.

    Args:
        image_size: side of the square input in pixels.
        patch_size: side of a patch.
        width: width of the transformer.
        layers: transformer layers.
        heads: attention heads.
        projection: D, the width it shares with the text side.
        activation: activation of the MLPs, ``quick_gelu`` (OpenAI) or ``gelu`` (OpenCLIP).
        intermediate: width of the MLPs; None means 4 ``width``.
    """
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=width,
            intermediate_size=intermediate or 4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=projection,
            hidden_act=activation,
        )
    )


def build_siglip_vision_tower(
    image_size: int = 224,
    patch_size: int = 16,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    intermediate: int | None = None,
) -> SiglipVisionModel:
    """Build a SigLIP vision tower of transformers with random weights; the defaults are SigLIP 2's base size.

    Args:
        image_size: side of the square input in pixels.
        patch_size: side of a patch.
        width: width of the transformer and of the embedding.
        layers: transformer layers.
        heads: attention heads.
        intermediate: width of the MLPs; None means 4 ``width``.
    """
    return SiglipVisionModel(
        SiglipVisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=width,
            intermediate_size=intermediate or 4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
        )
    )


class ImageEncoder(nn.Module):
    """An encoder of images to embeddings, for Eq. 3.

    Args:
        tower: the vision tower, CLIP's, SigLIP's or a ``ConvTower``; the pixels are normalised as it expects.
        width: D, the width it shares with the text side; if the tower's embedding has another width, a learned
            projection follows, which starts as the identity on the coordinates that both have. None means the tower's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, tower: CLIPVisionModelWithProjection | SiglipVisionModel | ConvTower, width: int | None = None
    ) -> None:
        super().__init__()
        self.tower = tower
        config: Any = tower.config
        embedded = int(config.hidden_size if isinstance(tower, SiglipVisionModel) else _projected(tower))
        self.width = width or embedded
        self.adapter = None if embedded == self.width else eye_linear(embedded, self.width)
        clip = isinstance(tower, CLIPVisionModelWithProjection)
        mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if clip else (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def image_size(self) -> int:
        """Side of the square in pixels that the tower reads; other images are resized to it."""
        return int(cast(int, self.tower.config.image_size))

    def forward(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) float in [-1, 1] as (B, D) float, not normalised."""
        said = self._read(images)
        if isinstance(said, VisionStates):
            return self._adapted(said.pooled)
        return self._adapted(said.image_embeds if "image_embeds" in said else said.pooler_output)

    def look(self, images: Tensor) -> VisionStates:
        """Return the output of :meth:`forward`, and an embedding of each patch in the same space.

        A CLIP tower's patches pass its final norm and its projection, like its summary. SigLIP's are its last states,
        which its attention pooling reads.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
        """
        said = self._read(images)
        if isinstance(said, VisionStates):
            return VisionStates(self._adapted(said.pooled), self._adapted(said.patches))
        if "image_embeds" in said:
            tower: Any = self.tower
            states = tower.visual_projection(tower.vision_model.post_layernorm(said.last_hidden_state[:, 1:]))
            pooled = said.image_embeds
        else:
            states, pooled = said.last_hidden_state, said.pooler_output
        side = math.isqrt(states.shape[1])
        return VisionStates(self._adapted(pooled), self._adapted(states.unflatten(1, (side, side))))

    def _read(self, images: Tensor) -> Any:
        """Run the tower on images resized to its size and normalised as it expects."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        pixels = ((images + 1) / 2 - self.mean) / self.std
        return self.tower(pixels) if isinstance(self.tower, ConvTower) else self.tower(pixel_values=pixels)

    def _adapted(self, embedded: Tensor) -> Tensor:
        return embedded if self.adapter is None else self.adapter(embedded)


def _projected(tower: CLIPVisionModelWithProjection | ConvTower) -> int:
    config: Any = tower.config
    return int(config.projection if isinstance(tower, ConvTower) else config.projection_dim)
