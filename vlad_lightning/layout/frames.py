"""Layouts of squares, in frames of other proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vlad_lightning.layout.masks import fills_frame
from vlad_lightning.types import Layout


def into_frame(layout: Layout, groups: Sequence[int], size: tuple[int, int]) -> Layout:
    """Place the phrases and objects of a square's layout in another frame, without stretching them.

    Each keeps its middle, in fractions of the frame, and has the size that it has in a square of the frame's shorter
    side. So what does not overlap in the square does not in the frame, and a phrase stays together. A background fills
    the frame. A box is a rectangle of the square that the frame is stretched to, so a turned box is drawn a little
    sheared.

    Args:
        layout: made for a square.
        groups: for each word, the index of its phrase.
        size: height and width of the frame, in any unit.

    Returns:
        The layout; the same one for a square.
    """
    height, width = size
    if height == width:
        return layout
    shrink = torch.tensor([min(size) / width, min(size) / height])
    boxes = _placed(layout.boxes, groups, shrink)
    objects = _placed(layout.object_boxes, range(len(layout.objects)), shrink)
    objects = torch.where(fills_frame(layout.object_boxes)[:, None], layout.object_boxes, objects)
    return replace(layout, boxes=boxes, object_boxes=objects)


def _placed(boxes: Tensor, groups: Sequence[int], shrink: Tensor) -> Tensor:
    """Shrink boxes (N, 5) around the middles of their groups by (2,) factors across and down."""
    names = ("",) * len(boxes)
    corners = Layout(names, boxes).quads()  # (N, 4, 2)
    for group in dict.fromkeys(groups):
        members = [i for i, each in enumerate(groups) if each == group]
        own = corners[members]
        middle = (own.amin(dim=(0, 1)) + own.amax(dim=(0, 1))) / 2
        corners[members] = middle + (own - middle) * shrink
    return Layout.from_quads(names, corners).boxes
