"""A vision tower for small pictures: convolutions that see strokes and edges, then a transformer over what they found.

A transformer over 8 px patches has to learn every edge from scratch; here each patch has heard of its surroundings
before attention starts (as in arXiv 2106.14881), and knows where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_GROUP = 8  # channels a group of GroupNorm


@dataclass(frozen=True)
class VisionStates:
    """What a vision tower says of ``B`` images.

    Attributes:
        pooled: (B, D) float.
        patches: (B, h, w, D) float, in the same space.
    """

    pooled: Tensor
    patches: Tensor


class ConvTower(ModelMixin, ConfigMixin):
    """Convolutions down to a grid, then a transformer over the grid and one summary; the defaults suit 64 px.

    The first convolution reads blocks of 2 x 2 pixels; every further entry of ``channels`` halves the grid.

    Args:
        image_size: side of the square input in pixels; it must divide by 2 to the power of the number of ``channels``.
        channels: of each resolution, multiples of 8; the last is the width of the transformer.
        blocks: residual blocks at each resolution.
        layers: transformer layers.
        heads: attention heads.
        projection: D, the width it shares with the text side.

    Raises:
        ValueError: where the settings do not fit each other.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 64,
        channels: tuple[int, ...] = (32, 64, 128),
        blocks: tuple[int, ...] = (0, 2, 2),
        layers: int = 2,
        heads: int = 4,
        projection: int = 128,
    ) -> None:
        super().__init__()
        if len(channels) != len(blocks) or not channels or any(c % _GROUP for c in channels):
            raise ValueError(f"channels is {channels}, blocks {blocks}; allowed: as many of both, channels in eights")
        if image_size % 2 ** len(channels):
            raise ValueError(f"image_size is {image_size}; it must divide by {2 ** len(channels)}")
        self.grid = image_size // 2 ** len(channels)
        stages: list[nn.Module] = []
        before = 3 * 4
        for place, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            stages.append(nn.Conv2d(before, width, 3, stride=2 if place else 1, padding=1))
            stages += [_Block(width) for _ in range(count)]
            before = width
        self.trunk = nn.Sequential(*stages, nn.GroupNorm(before // _GROUP, before))
        self.summary = nn.Parameter(torch.randn(1, 1, before) * 0.02)
        self.places = nn.Parameter(F.pad(_places(self.grid, before), (0, 0, 1, 0))[None])  # the summary has none
        layer = nn.TransformerEncoderLayer(
            before, heads, 4 * before, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(before)
        self.transformer = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)
        self.to_shared = nn.Linear(before, projection)

    def forward(self, pixels: Tensor) -> VisionStates:
        """(B, 3, H, W) float of the tower's own size -> its states."""
        grid = self.trunk(F.pixel_unshuffle(pixels, 2)).flatten(2).mT  # (B, h w, C)
        row = torch.cat([self.summary.expand(len(grid), -1, -1), grid], dim=1) + self.places
        said = self.to_shared(self.transformer(row))
        return VisionStates(said[:, 0], said[:, 1:].unflatten(1, (self.grid, self.grid)))


def _places(grid: int, width: int) -> Tensor:
    """(grid * grid, width): sinusoids of the row and the column, of unit variance as what they are added to.

    Small random ones would have to grow fiftyfold before a patch knows where it stands.
    """
    waves = 2**0.5 * get_timestep_embedding(torch.arange(grid), width // 2, max_period=2 * grid)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class _Block(nn.Module):
    """Two convolutions beside the identity, which it starts as."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.first_norm, self.second_norm = (nn.GroupNorm(width // _GROUP, width) for _ in range(2))
        for weight in self.second.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(F.silu(self.first_norm(x)))
        return x + self.second(F.silu(self.second_norm(hidden)))
