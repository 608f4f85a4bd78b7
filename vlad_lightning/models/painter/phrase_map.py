"""The phrase map: composed phrases t_i of Eq. 2 drawn into their boxes, as the rasterizer draws words (Eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vlad_lightning.layout.masks import box_coordinates

_POSITION_CHANNELS = 3  # across, down, and coverage
_OPAQUE = 2.0  # initial opacity before the sigmoid, after which it is 0.88


@dataclass(frozen=True)
class Grounding:
    """The phrases of ``B`` prompts and their boxes.

    Attributes:
        phrases: (B, K, D) float: composed t_i.
        boxes: (B, K, 5) float32: centre and size in fractions of the frame, and the angle in radians.
        mask: (B, K) bool: which phrases have a box; the others are not drawn.
    """

    phrases: Tensor
    boxes: Tensor
    mask: Tensor


class PhraseMap(ModelMixin, ConfigMixin):
    """A learned stamp for each grounded phrase, stretched into its box: the part of z_t for the objects.

    A small network turns t_i into a stamp of ``side`` x ``side`` cells, with an opacity for each, through which the
    phrase beneath is seen. The stamp is stretched over the phrase's box, rotated with it, and pasted into the frame
    with smooth edges; further channels hold the box's own coordinates, from -1 to 1 across and down, and the coverage.
    Of boxes that overlap, the smaller one is on top. The first channels of a stamp can be trained to show what the
    phrase looks like (``map_weight`` of :class:`~vlad_lightning.modules.settings.LossSettings`).

    Args:
        text_width: D of the phrases.
        channels: channels of a stamp.
        side: side of a stamp, in cells.
        width: width of the network's hidden layer.
    """

    @register_to_config
    def __init__(self, text_width: int, channels: int = 16, side: int = 8, width: int = 256) -> None:
        super().__init__()
        hidden, stamp = nn.Linear(text_width, width), nn.Linear(width, (channels + 1) * side**2)
        nn.init.constant_(stamp.bias[channels * side**2 :], _OPAQUE)
        self.draw = nn.Sequential(nn.LayerNorm(text_width), hidden, nn.GELU(), stamp)

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return int(self.config.channels) + _POSITION_CHANNELS

    def forward(self, grounding: Grounding, size: tuple[int, int]) -> Tensor:
        """Draw the map.

        Args:
            grounding: the grounded phrases of B prompts.
            size: h and w of the map.

        Returns:
            (B, out_channels, h, w) float32; zero where no phrase is drawn.
        """
        ordered = _smallest_last(grounding)
        side = self.config.side
        stamps = self.draw(ordered.phrases).unflatten(-1, (-1, side, side)).float()  # (B, K, E + 1, S, S)
        canvas = stamps.new_zeros(len(stamps), self.out_channels, *size)
        with torch.autocast(stamps.device.type, enabled=False):  # bfloat16 would move the edges
            across, down, cover = box_coordinates(ordered.boxes, size)
            cover = cover * ordered.mask[..., None, None]
            for k in range(stamps.shape[1]):
                grid = torch.stack([across[:, k], down[:, k]], dim=-1)  # (B, h, w, 2)
                stamp = F.grid_sample(stamps[:, k], grid, padding_mode="border", align_corners=False)
                inside = torch.stack([across[:, k], down[:, k], torch.ones_like(across[:, k])], dim=1).clamp(-1, 1)
                opaque = cover[:, k, None] * stamp[:, -1:].sigmoid()
                share = torch.cat([opaque.expand_as(stamp[:, :-1]), cover[:, k, None].expand_as(inside)], dim=1)
                canvas = canvas.lerp(torch.cat([stamp[:, :-1], inside], dim=1), share)
        return canvas


def _smallest_last(grounding: Grounding) -> Grounding:
    """Keep the drawn phrases, the largest of each row first; keep at least one, so that the weights are used."""
    boxes, mask = grounding.boxes.float(), grounding.mask
    area = torch.where(mask, boxes[..., 2] * boxes[..., 3], -1.0)
    most = max(1, int(mask.sum(dim=1).max()))
    order = area.argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, most)
    row = torch.arange(len(boxes), device=boxes.device)[:, None]
    return Grounding(grounding.phrases[row, order], boxes[row, order], mask[row, order])
