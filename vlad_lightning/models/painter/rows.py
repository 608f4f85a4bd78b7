"""Rows of objects that are alike: the box of ``three red fish`` in one box for each fish."""

from __future__ import annotations

import torch
from torch import Tensor

_NARROWEST = 0.25  # of an object of a row, as a share of its part of the row's length


def split_rows(
    across: Tensor, down: Tensor, cover: Tensor, sides: Tensor, counts: Tensor, ratios: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the coordinates in the box of a row by those in the boxes of its objects.

    The row lies along the longer side of its box, the first and the last object touch its ends, and all have the same
    size. Their second side is the box's; the first follows from the ratio of an object's sides.

    Args:
        across: (B, K, H, W) float32: the coordinates of
            :func:`~vlad_lightning.layout.masks.box_coordinates`, from -1 to 1 inside the box.
        down: the same.
        cover: (B, K, H, W) float32 in [0, 1]: its coverage.
        sides: (B, K, 2) float32: width and height of each box in cells, above 0.
        counts: (B, K) int64: objects of each row, at least 1.
        ratios: (B, K) float32: width over height of an object, above 0.

    Returns:
        The three for the nearest object of each row; as they were where it has one object.
    """
    width, height = sides[..., None, None].unbind(dim=2)  # (B, K, 1, 1) each
    lies = width >= height
    ratio, count = ratios[..., None, None], counts[..., None, None]
    length, other = torch.where(lies, width, height), torch.where(lies, height, width)
    most = length / count
    item = torch.minimum(torch.maximum(other * torch.where(lies, ratio, 1 / ratio), _NARROWEST * most), most)
    pitch = (length - item) / (count - 1).clamp(min=1)
    along = (torch.where(lies, across, down) + 1) / 2 * length  # from 0 to the length, in cells
    nearest = ((along - item / 2) / pitch.clamp(min=1e-6)).round().clamp(min=0).minimum(count - 1)
    offset = along - nearest * pitch - item / 2  # from the centre of the nearest object
    several = count > 1
    own = torch.where(several, 2 * offset / item, torch.where(lies, across, down))
    ends = torch.where(several, ((item / 2 - offset.abs()) + 0.5).clamp(0, 1), 1.0)
    return torch.where(lies, own, across), torch.where(lies, down, own), torch.minimum(cover, ends)
