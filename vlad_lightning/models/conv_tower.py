"""A vision tower for small pictures: convolutions for strokes and edges, then a transformer over their features.

A transformer over 8 px patches has to learn every edge from scratch; here each patch holds features of its surroundings
before attention starts (as in arXiv 2106.14881), and its position.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_GROUP = 8  # channels per group of GroupNorm


@dataclass(frozen=True)
class VisionStates:
    """The output of a vision tower for ``B`` images.

    Attributes:
        pooled: (B, D) float.
        patches: (B, h, w, D) float, in the same space.
    """

    pooled: Tensor
    patches: Tensor


class ConvTower(ModelMixin, ConfigMixin):
    """Convolutions down to a grid, then a transformer over the grid and one summary; the defaults suit 64 px.

    The first convolution reads blocks of 2 x 2 pixels; every further entry of ``channels`` halves the grid. Patches can
    be finer than the transformer's grid: its output is then joined with the convolutions' finer features (as in feature
    pyramids, arXiv 1612.03144), so that a shape of ten pixels is more than one patch.

    Args:
        image_size: side of the square input in pixels, divisible by 2 to the power of the number of ``channels``.
        channels: channels of each resolution, multiples of 8; the last is the width of the transformer.
        blocks: residual blocks at each resolution.
        layers: transformer layers.
        heads: attention heads.
        projection: D, the width it shares with the text side.
        finer: how many times finer by 2 the patches' grid is than the transformer's; below the number of ``channels``.

    Raises:
        ValueError: if the settings do not fit each other.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 64,
        channels: tuple[int, ...] = (32, 64, 128),
        blocks: tuple[int, ...] = (1, 2, 1),
        layers: int = 2,
        heads: int = 4,
        projection: int = 128,
        finer: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) != len(blocks) or not channels or any(c % _GROUP for c in channels):
            raise ValueError(
                f"channels is {channels}, blocks {blocks}; allowed: as many of both, channels divisible by 8"
            )
        if image_size % 2 ** len(channels):
            raise ValueError(f"image_size is {image_size}; it must be divisible by {2 ** len(channels)}")
        if not 0 <= finer < len(channels):
            raise ValueError(
                f"finer is {finer}; allowed: 0 to {len(channels) - 1}, one less than the number of channels"
            )
        self.grid = image_size // 2 ** len(channels)
        self.trunk = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2 if i else 1, padding=1), *(_Block(width) for _ in range(count))
            )
            for i, (before, width, count) in enumerate(zip((3 * 4, *channels), channels, blocks, strict=False))
        )
        width = channels[-1]
        self.norm = nn.GroupNorm(width // _GROUP, width)
        self.summary = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position_embedding = nn.Parameter(
            F.pad(position_table(self.grid, width), (0, 0, 1, 0))[None]
        )  # the summary has no position
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.to_shared = nn.Linear(width, projection)
        widths = channels[::-1][: 1 + finer]
        self.joins = nn.ModuleList(_Join(*pair, self.grid * 2**i) for i, pair in enumerate(pairwise(widths), start=1))
        self.to_patch = _out(widths[-1], projection) if finer else None

    def forward(self, pixels: Tensor) -> VisionStates:
        """Encode (B, 3, H, W) float of the tower's own size."""
        x, maps = F.pixel_unshuffle(pixels, 2), []
        for stage in self.trunk:
            x = stage(x)
            maps.append(x)
        grid = self.norm(x).flatten(2).mT  # (B, h w, C)
        row = torch.cat([self.summary.expand(len(grid), -1, -1), grid], dim=1) + self.position_embedding
        said = self.transformer(row)
        pooled = self.to_shared(said[:, 0])
        if self.to_patch is None:
            return VisionStates(pooled, self.to_shared(said[:, 1:]).unflatten(1, (self.grid, self.grid)))
        patches = said[:, 1:].mT.unflatten(2, (self.grid, self.grid))  # (B, C, h, w)
        for join, fine in zip(self.joins, maps[-2::-1], strict=False):
            patches = join(patches, fine)
        return VisionStates(pooled, self.to_patch(patches).permute(0, 2, 3, 1))


def _out(width: int, projection: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(width // _GROUP, width), nn.Conv2d(width, projection, 1))


class _Join(nn.Module):
    """A join of the features of a coarse grid and of a grid twice as fine, on the fine grid.

    Args:
        coarse: channels of the coarse grid.
        fine: channels of the fine grid.
        grid: side of the fine grid.
    """

    def __init__(self, coarse: int, fine: int, grid: int) -> None:
        super().__init__()
        self.position_embedding = nn.Parameter(
            position_table(grid, fine).T.contiguous().unflatten(1, (grid, grid))
        )  # (c, 2 h, 2 w)
        self.lateral = nn.Conv2d(coarse, fine, 1)
        self.norm = nn.GroupNorm(fine // _GROUP, fine)
        self.blocks = nn.Sequential(_Block(fine), _Block(fine))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Join (B, C, h, w) and (B, c, 2 h, 2 w) to (B, c, 2 h, 2 w)."""
        return self.blocks(
            self.norm(fine) + self.position_embedding + F.interpolate(self.lateral(coarse), scale_factor=2.0)
        )


def position_table(grid: int, width: int) -> Tensor:
    """Compute sinusoids of row and column, (grid * grid, width), of unit variance like the features they are added to.

    Small random embeddings would have to grow fiftyfold before a patch knows its position.
    """
    waves = 2**0.5 * get_timestep_embedding(torch.arange(grid), width // 2, max_period=2 * grid)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class _Block(nn.Module):
    """A residual block of two convolutions, which starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.first_norm, self.second_norm = (nn.GroupNorm(width // _GROUP, width) for _ in range(2))
        for weight in self.second.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(F.silu(self.first_norm(x)))
        return x + self.second(F.silu(self.second_norm(hidden)))
