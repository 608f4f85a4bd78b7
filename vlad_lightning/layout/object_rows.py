"""Boxes of rows of objects: the proportions of ``three red fish``.

A row lies or stands. A layout generator that is unsure which of the two gives the box that is between them: a square,
in which each of three fish is a third as wide as it is high. The number of the objects tells the proportions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vlad_lightning.layout.masks import fills_frame
from vlad_lightning.layout.object_requests import count_of
from vlad_lightning.layout.prompt_parser import bare_phrase

_LENGTH = 1.05  # of a row, in shorter sides for each object, which is square and has a gap beside it
_LONGEST = 0.96  # of the frame


def in_proportion(phrases: Sequence[str], boxes: Tensor) -> Tensor:
    """Lengthen the boxes of rows that are too short for their objects.

    A row lies along its longer side, and keeps its centre and its area if it then fits into the frame; otherwise it is
    moved, and shrunk if it is longer than the frame.

    Args:
        phrases: K phrases.
        boxes: (K, 5) float32, as ``object_boxes`` of :class:`~vlad_lightning.types.Layout`.

    Returns:
        (K, 5) float32; backgrounds, single objects, rows that are long enough, and boxes without an area bit for bit.
    """
    result = boxes.clone()
    for i, (phrase, ground) in enumerate(zip(phrases, fills_frame(boxes).tolist(), strict=True)):
        count = count_of(bare_phrase(phrase))
        if count > 1 and not ground:
            result[i] = torch.tensor(_lengthened(boxes[i].tolist(), count * _LENGTH)).to(boxes)
    return result


def _lengthened(box: list[float], proportion: float) -> list[float]:
    """Return a box whose longer side is at least ``proportion`` times the shorter one."""
    x, y, width, height, angle = box
    long, short = max(width, height), min(width, height)
    if not all(map(math.isfinite, box)) or short <= 0 or long >= proportion * short:
        return box
    long, short = (math.sqrt(long * short * share) for share in (proportion, 1 / proportion))
    scale = min(1.0, _LONGEST / long)
    width, height = (scale * side for side in ((long, short) if width >= height else (short, long)))
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half_width, half_height = (cos * width + sin * height) / 2, (sin * width + cos * height) / 2
    return [_within(x, half_width), _within(y, half_height), width, height, angle]


def _within(centre: float, half: float) -> float:
    """Move a centre so that a box that reaches ``half`` to each side is in the frame, or centred if it cannot be."""
    return min(max(centre, half), 1 - half) if half <= 0.5 else 0.5
