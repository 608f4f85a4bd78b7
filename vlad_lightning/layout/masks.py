"""Masks of rotated boxes, for the regions that inpainting is trained on and for words."""

from __future__ import annotations

import torch
from torch import Tensor

FRAME = (0.5, 0.5, 1.0, 1.0, 0.0)
"""The box of the whole frame."""

_MOST_OF_FRAME = 0.75


def box_masks(boxes: Tensor, kept: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark the pixels that lie in at least one of an image's boxes.

    Args:
        boxes: (B, N, 5) float, as in :class:`~vlad_lightning.types.Layout`.
        kept: (B, N) bool; boxes with False are ignored.
        size: height and width in pixels.

    Returns:
        (B, 1, H, W) bool: True at the pixels whose centres lie in a box.
    """
    along, aside = _own_axes(boxes, size)
    across, down = boxes[..., 2, None, None], boxes[..., 3, None, None]
    inside = (along.abs() <= across / 2) & (aside.abs() <= down / 2) & kept[..., None, None]
    return inside.any(dim=1, keepdim=True)


def box_coordinates(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the coordinates of a grid's cells in the axes of each box, and how much of each cell the box covers.

    Args:
        boxes: (B, N, 5) float32, as in :class:`~vlad_lightning.types.Layout`.
        size: height and width of the grid over the frame, in cells.

    Returns:
        across and down, (B, N, H, W) float32: the coordinates of each cell's centre in the box's own axes, from -1 to 1
        inside the box; and the coverage in [0, 1], which falls from 1 to 0 over about one cell at the box's edge.
    """
    along, aside = _own_axes(boxes, size)
    half_width, half_height = (boxes[..., i, None, None].clamp(min=1e-3) / 2 for i in (2, 3))
    cover_x = ((half_width - along.abs()) * size[1] + 0.5).clamp(0, 1)
    cover_y = ((half_height - aside.abs()) * size[0] + 0.5).clamp(0, 1)
    return along / half_width, aside / half_height, cover_x * cover_y


def covered(boxes: Tensor, kept: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how much of each cell of a grid lies in one of an image's boxes, (B, H, W) float in [0, 1].

    Args:
        boxes: (B, N, 5) float32, as in :class:`~vlad_lightning.types.Layout`.
        kept: (B, N) bool; boxes with False are ignored.
        size: height and width of the grid over the frame, in cells.
    """
    cover = box_coordinates(boxes, size)[2] * kept[..., None, None]
    return cover.amax(dim=1) if cover.shape[1] else cover.sum(dim=1)


def _own_axes(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Compute the offset of each cell's centre from each box's centre, along the box and aside: (B, N, H, W) each."""
    height, width = size
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    centre_x, centre_y, _, _, angle = boxes[..., None, None].unbind(dim=2)  # (B, N, 1, 1) each
    dx, dy = x[None, :] - centre_x, y[:, None] - centre_y
    return dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()


def fills_frame(boxes: Tensor) -> Tensor:
    """Return which boxes (..., 5) cover most of the frame, (...) bool: such a phrase is a background."""
    return boxes[..., 2] * boxes[..., 3] >= _MOST_OF_FRAME


def grown(boxes: Tensor, margin: float) -> Tensor:
    """Grow boxes (..., 5) by ``margin`` times their height on every side."""
    wider = boxes.clone()
    wider[..., 2:4] += 2 * margin * boxes[..., 3:4]
    return wider
