"""The object detector's training targets, its loss, and a count of its hits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.layout.scene_objects import COLOURS, FIELDS, KINDS, FoundObject
from vlad_lightning.models.object_detector import ObjectMaps

_SPREAD = 0.75  # standard deviation of a centre's bump, in cells
_BESIDE = 0.3  # cells where the bump is higher also learn shape, colour and box
_WEIGHTS = (1.0, 1.0, 1.0, 0.5)  # of centre, shape, colour, box


def bumps(things: Tensor, cells: int) -> Tensor:
    """Draw a bump of height 1 at the cell of each object's centre.

    Args:
        things: (B, M, 7) float, see :data:`FIELDS`.
        cells: G.

    Returns:
        (B, M, G, G) float32 in [0, 1].
    """
    across = torch.arange(cells, device=things.device, dtype=torch.float32)
    middle = (things[..., 3:5] * cells).floor().clamp(0, cells - 1)  # (B, M, 2), cells
    dx = across - middle[..., :1]  # (B, M, G)
    dy = across - middle[..., 1:]
    square = dy[..., :, None] ** 2 + dx[..., None, :] ** 2
    return things[..., 0, None, None] * torch.exp(-square / (2 * _SPREAD**2))


def detection_loss(maps: ObjectMaps, things: Tensor) -> Tensor:
    """Compute CenterNet's focal loss of the centres, cross-entropy of shape and colour, and L1 of the boxes.

    Args:
        maps: the detector's output for B pictures.
        things: (B, M, 7) float: their objects, see :data:`FIELDS`.

    Returns:
        () float32.
    """
    cells = maps.centre.shape[-1]
    each = bumps(things, cells)  # (B, M, G, G)
    height, owner = each.max(1)  # (B, G, G): the nearest object's
    chosen = things.gather(1, owner.flatten(1)[..., None].expand(-1, -1, FIELDS))  # (B, G * G, 7)
    chosen = chosen.unflatten(1, (cells, cells))  # (B, G, G, 7)
    weight = torch.where(height >= _BESIDE, height, torch.zeros_like(height))
    total = weight.sum().clamp(min=1.0)
    named = chosen[..., 1].long()
    # a detector of shapes alone calls every thing an object of no shape, its last class
    named = named.clamp(max=maps.shape.shape[1] - 1)
    shape = F.cross_entropy(maps.shape, named, reduction="none", label_smoothing=0.02)
    colour = F.cross_entropy(maps.colour, chosen[..., 2].long(), reduction="none", label_smoothing=0.02)
    box = (maps.box - _boxes(chosen, cells)).abs().sum(1)
    parts = (
        _focal(maps.centre[:, 0], height) / things[..., 0].sum().clamp(min=1.0),
        (shape * weight).sum() / total,
        (colour * weight).sum() / total,
        (box * weight).sum() / total,
    )
    return torch.stack([factor * part for factor, part in zip(_WEIGHTS, parts, strict=True)]).sum()


def _boxes(chosen: Tensor, cells: int) -> Tensor:
    """Convert (B, G, G, 7) to (B, 4, G, G), see ``box`` of :class:`ObjectMaps`."""
    middles = torch.arange(cells, device=chosen.device, dtype=chosen.dtype) + 0.5
    right = chosen[..., 3] * cells - middles
    down = chosen[..., 4] * cells - middles[:, None]
    sizes = chosen[..., 5:].clamp(min=1e-3).log()
    return torch.stack([right, down, sizes[..., 0], sizes[..., 1]], dim=1)


def _focal(logits: Tensor, height: Tensor) -> Tensor:
    """Compute CenterNet's Eq. 1 with alpha 2 and beta 4, summed."""
    score = logits.sigmoid()
    at = (height == 1).float()
    hit = at * (1 - score) ** 2 * F.logsigmoid(logits)
    miss = (1 - at) * (1 - height) ** 4 * score**2 * F.logsigmoid(-logits)
    return -(hit + miss).sum()


def count_hits(found: Sequence[Sequence[FoundObject]], things: Tensor, near: float = 0.06) -> Tensor:
    """Count the true objects that are found, and those whose shape and colour are right.

    Args:
        found: a detector's objects on each of B posters, the highest score first.
        things: (B, M, 7) float: the true objects, see :data:`FIELDS`.
        near: how far a found centre may be from the true one, across and down, in fractions of the frame.

    Returns:
        (5 + 2 S,) int64, summed over the posters: true objects, found ones, true ones that are found, with the right
        shape, with the right colour; then, for each of the S kinds, true objects and those found with that shape.
    """
    counts = torch.zeros(5 + 2 * len(KINDS), dtype=torch.int64)
    for objects, rows in zip(found, things.tolist(), strict=True):
        left = list(objects)
        counts[1] += len(left)
        for present, kind, colour, x, y, *_ in rows:
            if not present:
                continue
            counts[0] += 1
            counts[5 + int(kind)] += 1
            hit = next((o for o in left if abs(o.x - x) <= near and abs(o.y - y) <= near), None)
            if hit is None:
                continue
            left.remove(hit)
            same = hit.shape == KINDS[int(kind)]
            counts[2:5] += torch.tensor([1, same, hit.colour == COLOURS[int(colour)]])
            counts[5 + len(KINDS) + int(kind)] += same
    return counts
