"""Masks of rotated boxes: the regions that inpainting is trained on, and the words' own."""

from __future__ import annotations

import torch
from torch import Tensor

FRAME = (0.5, 0.5, 1.0, 1.0, 0.0)
"""The box that is the whole frame."""

_MOST_OF_FRAME = 0.75


def box_masks(boxes: Tensor, kept: Tensor, size: tuple[int, int]) -> Tensor:
    """Where at least one of a picture's boxes lies.

    Args:
        boxes: (B, N, 5) float, as those of :class:`~vlad_lightning.types.Layout`.
        kept: (B, N) bool; the other boxes do not count.
        size: height and width in pixels.

    Returns:
        (B, 1, H, W) bool: True at the pixels whose centres lie in a box.
    """
    along, aside = _own_axes(boxes, size)
    across, down = boxes[..., 2, None, None], boxes[..., 3, None, None]
    inside = (along.abs() <= across / 2) & (aside.abs() <= down / 2) & kept[..., None, None]
    return inside.any(dim=1, keepdim=True)


def box_coordinates(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The places of a frame as boxes see them.

    Args:
        boxes: (B, N, 5) float32, as those of :class:`~vlad_lightning.types.Layout`.
        size: height and width of the frame in places.

    Returns:
        across and down, (B, N, H, W) float32: a box's own coordinates of each place's centre, from -1 to 1 inside; and
        the coverage in [0, 1], which falls from 1 to 0 over about the width of a place at a box's edge.
    """
    along, aside = _own_axes(boxes, size)
    half_width, half_height = (boxes[..., i, None, None].clamp(min=1e-3) / 2 for i in (2, 3))
    cover_x = ((half_width - along.abs()) * size[1] + 0.5).clamp(0, 1)
    cover_y = ((half_height - aside.abs()) * size[0] + 0.5).clamp(0, 1)
    return along / half_width, aside / half_height, cover_x * cover_y


def _own_axes(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(B, N, H, W) each: how far each place's centre lies from each box's centre, along it and aside, in the frame."""
    height, width = size
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    centre_x, centre_y, _, _, angle = boxes[..., None, None].unbind(dim=2)  # (B, N, 1, 1) each
    dx, dy = x[None, :] - centre_x, y[:, None] - centre_y
    return dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()


def fills_frame(boxes: Tensor) -> Tensor:
    """Which boxes (..., 5) cover most of the frame, (...) bool: such a phrase is the ground the others stand on."""
    return boxes[..., 2] * boxes[..., 3] >= _MOST_OF_FRAME


def grown(boxes: Tensor, margin: float) -> Tensor:
    """Boxes (..., 5) with ``margin`` times their height added on every side."""
    wider = boxes.clone()
    wider[..., 2:4] += 2 * margin * boxes[..., 3:4]
    return wider
