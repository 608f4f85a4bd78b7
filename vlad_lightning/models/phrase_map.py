"""What stands where: the composed phrases t_i of Eq. 2 drawn into their boxes, as the rasteriser draws words (Eq. 6)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_PLACE_CHANNELS = 3  # across, down, and how much of a place is covered


class PhraseMap(ModelMixin, ConfigMixin):
    """A learned stamp for each grounded phrase, stretched into its box: the part of z_t that tells of the objects.

    A small network turns t_i into a stamp of ``side`` x ``side`` places. It is stretched over the phrase's box, turned
    with it, and pasted into the frame with smooth edges; beside it stand the box's own coordinates, from -1 to 1 across
    and down, and the coverage. Of boxes that overlap, the smaller one lies on top.

    Args:
        text_width: D of the phrases.
        channels: of a stamp.
        side: of a stamp, in places.
        width: of the network's hidden layer.
    """

    @register_to_config
    def __init__(self, text_width: int, channels: int = 16, side: int = 8, width: int = 256) -> None:
        super().__init__()
        self.draw = nn.Sequential(
            nn.LayerNorm(text_width), nn.Linear(text_width, width), nn.GELU(), nn.Linear(width, channels * side**2)
        )

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return int(self.config.channels) + _PLACE_CHANNELS

    def forward(self, phrases: Tensor, boxes: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw the map.

        Args:
            phrases: (B, K, D) float, composed.
            boxes: (B, K, 5) float: centre and size in fractions of the frame, and the angle in radians.
            mask: (B, K) bool: which phrases are drawn.
            size: h and w of the map.

        Returns:
            (B, out_channels, h, w) float32; zero where there is no phrase.
        """
        boxes, mask, phrases = _smallest_last(boxes.float(), mask, phrases)
        side = self.config.side
        stamps = self.draw(phrases).unflatten(-1, (-1, side, side)).float()  # (B, K, E, S, S)
        canvas = stamps.new_zeros(len(boxes), self.out_channels, *size)
        with torch.autocast(boxes.device.type, enabled=False):  # bfloat16 would move the edges
            across, down, cover = box_coordinates(boxes, size)
            cover = cover * mask[..., None, None]
            for k in range(boxes.shape[1]):
                place = torch.stack([across[:, k], down[:, k]], dim=-1)  # (B, h, w, 2)
                stamp = nn.functional.grid_sample(stamps[:, k], place, padding_mode="border", align_corners=False)
                inside = torch.stack([across[:, k], down[:, k], torch.ones_like(across[:, k])], dim=1).clamp(-1, 1)
                canvas = canvas.lerp(torch.cat([stamp, inside], dim=1), cover[:, k, None])
        return canvas


def box_coordinates(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The places of a frame as boxes see them.

    Args:
        boxes: (B, K, 5) float32.
        size: h and w of the frame in places.

    Returns:
        across and down, (B, K, h, w) float32: a box's own coordinates of each place's centre, -1 to 1 inside; and the
        coverage in [0, 1], which falls from 1 to 0 over the width of a place at a box's edge.
    """
    height, width = size
    x = (torch.arange(width, device=boxes.device) + 0.5) / width
    y = (torch.arange(height, device=boxes.device) + 0.5) / height
    dx = x[None, :] - boxes[..., 0, None, None]  # (B, K, 1, w)
    dy = y[:, None] - boxes[..., 1, None, None]  # (B, K, h, 1)
    cos, sin = boxes[..., 4, None, None].cos(), boxes[..., 4, None, None].sin()
    half = boxes[..., 2:4, None, None].clamp(min=1e-3) / 2
    across, down = (dx * cos + dy * sin) / half[:, :, 0], (dy * cos - dx * sin) / half[:, :, 1]
    cover_x = ((1 - across.abs()) * half[:, :, 0] * width + 0.5).clamp(0, 1)
    cover_y = ((1 - down.abs()) * half[:, :, 1] * height + 0.5).clamp(0, 1)
    return across, down, cover_x * cover_y


def _smallest_last(boxes: Tensor, mask: Tensor, phrases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The phrases that are drawn in any row, the largest of each row first; at least one, so that weights are used."""
    area = torch.where(mask, boxes[..., 2] * boxes[..., 3], -1.0)
    most = max(1, int(mask.sum(dim=1).max()))
    order = area.argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, most)
    row = torch.arange(len(boxes), device=boxes.device)[:, None]
    return boxes[row, order], mask[row, order], phrases[row, order]
