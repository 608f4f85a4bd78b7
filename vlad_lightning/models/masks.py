"""Masks of rotated boxes: the regions that inpainting is trained on, and the words' own."""

from __future__ import annotations

import torch
from torch import Tensor


def box_masks(boxes: Tensor, kept: Tensor, size: tuple[int, int]) -> Tensor:
    """Where at least one of a picture's boxes lies.

    Args:
        boxes: (B, N, 5) float, as those of :class:`~vlad_lightning.types.Layout`.
        kept: (B, N) bool; the other boxes do not count.
        size: height and width in pixels.

    Returns:
        (B, 1, H, W) bool: True at the pixels whose centres lie in a box.
    """
    height, width = size
    y = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    x = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    centre_x, centre_y, across, down, angle = boxes[..., None, None].unbind(dim=2)  # (B, N, 1, 1) each
    dx, dy = x[None, :] - centre_x, y[:, None] - centre_y
    along = dx * angle.cos() + dy * angle.sin()  # (B, N, H, W), in the box's own axes
    aside = dy * angle.cos() - dx * angle.sin()
    inside = (along.abs() <= across / 2) & (aside.abs() <= down / 2) & kept[..., None, None]
    return inside.any(dim=1, keepdim=True)


def grown(boxes: Tensor, margin: float) -> Tensor:
    """Boxes (..., 5) with ``margin`` times their height added on every side."""
    wider = boxes.clone()
    wider[..., 2:4] += 2 * margin * boxes[..., 3:4]
    return wider
