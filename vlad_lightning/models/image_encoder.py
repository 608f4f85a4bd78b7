"""The vision side of the encoder: a CLIP vision tower that takes images as this package has them."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


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
    """A CLIP vision tower of transformers with random weights.

    Args:
        image_size: side of the square input in pixels.
        patch_size: side of a patch.
        width: of the transformer.
        layers: transformer layers.
        heads: attention heads.
        projection: D, the width it shares with the text side.
        activation: of the MLPs, ``quick_gelu`` (OpenAI) or ``gelu`` (OpenCLIP).
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


class ImageEncoder(nn.Module):
    """Images to embeddings, for Eq. 3.

    Args:
        tower: the CLIP vision tower.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("mean", torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, D) float, not normalised."""
        size = int(cast(int, self.tower.config.image_size))
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        return self.tower(pixel_values=((images + 1) / 2 - self.mean) / self.std).image_embeds
