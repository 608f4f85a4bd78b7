"""A small detector of coloured objects: the box, shape and colour of each.

One network sees the whole picture once and predicts, for each cell of a grid, whether an object's centre lies there
(CenterNet, arXiv 1904.07850), its shape, its colour and its box. Its first layer moves 2 x 2 pixels into
channels, so no pixel of a small shape is averaged away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlad_lightning.layout.scene_objects import COLOURS, KINDS, SHAPE_KINDS, FoundObject

STRIDE = 4
"""Side of a grid cell in pixels of the detector's own frame."""

_SAME = 0.3  # two boxes that overlap by more are one object


@dataclass(frozen=True)
class ObjectMaps:
    """The output of the network for each cell of its grid: S kinds of objects, C colours, G x G cells.

    Attributes:
        centre: (B, 1, G, G) float: logits of an object's centre.
        shape: (B, S, G, G) float: logits, in the order of :data:`KINDS`: the first :data:`SHAPE_KINDS`, or all.
        colour: (B, C, G, G) float: logits, in the order of the palette.
        box: (B, 4, G, G) float: the centre's distance from the cell's middle, right and down, in cells; and the
            logarithm of width and height in fractions of the frame.
    """

    centre: Tensor
    shape: Tensor
    colour: Tensor
    box: Tensor


class ObjectDetector(nn.Module):
    """A network from pictures to maps, and from maps to objects.

    Args:
        size: side of the detector's own frame in pixels, a multiple of 8; pictures of another size are resized to it.
        width: channels of its finest layer; deeper ones have more.
        things: whether it knows things (a car, a tree) beside the shapes; to a detector without, each of them is an
            object of no shape.

    Raises:
        ValueError: if ``size`` is not a multiple of 8, or ``width`` is below 8.
    """

    def __init__(self, size: int = 64, width: int = 32, things: bool = False) -> None:
        super().__init__()
        if size < 8 or size % 8:
            raise ValueError(f"size is {size}; it must be a multiple of 8")
        if width < 8:
            raise ValueError(f"width is {width}; it must be at least 8")
        self.size = size
        kinds = KINDS if things else KINDS[:SHAPE_KINDS]
        self.nouns = tuple(name for name in kinds if name)
        self._parts = (1, len(kinds), len(COLOURS), 4)
        fine, middle, coarse = width, 2 * width, 3 * width
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), _Conv(12, fine), _Conv(fine, fine + fine // 2))
        self.down = nn.Sequential(_Conv(fine + fine // 2, middle, stride=2), _Residual(middle), _Residual(middle))
        self.around = nn.Sequential(_Conv(middle, coarse, stride=2), _Residual(coarse), nn.Conv2d(coarse, middle, 1))
        self.join = nn.Sequential(_Residual(middle), _Residual(middle))
        self.head = nn.Conv2d(middle, sum(self._parts), 1)
        with torch.no_grad():
            cast(Tensor, self.head.bias)[0] = -4.0  # centres are rare: start with low scores, as focal losses need

    @property
    def cells(self) -> int:
        """G, the grid's cells per side."""
        return self.size // STRIDE

    def forward(self, images: Tensor) -> ObjectMaps:
        """Predict the float32 maps of images (B, 3, H, W) float in [-1, 1]."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        x = self.down(self.stem(images.contiguous(memory_format=torch.channels_last)))  # (B, 2 width, G, G)
        x = x + F.interpolate(self.around(x), scale_factor=2.0)
        said: Tensor = self.head(self.join(x))
        return ObjectMaps(*said.float().split(self._parts, dim=1))

    @torch.no_grad()
    def detect(self, images: Tensor, threshold: float = 0.4) -> list[tuple[FoundObject, ...]]:
        """Detect the objects on each of B pictures, the highest score first.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            threshold: lowest score of an object, in [0, 1].
        """
        return detect_objects(self(images), threshold)


def detect_objects(maps: ObjectMaps, threshold: float = 0.4, most: int = 24) -> list[tuple[FoundObject, ...]]:
    """Find the peaks of the centre map, one for each object.

    Args:
        maps: the network's output for B pictures.
        threshold: lowest score, in [0, 1].
        most: the most objects of a picture; those with the highest scores are kept.
    """
    scores = maps.centre.sigmoid()
    peaks = (scores == F.max_pool2d(scores, 3, 1, 1)) & (scores >= threshold)
    shape, colour = maps.shape.argmax(1), maps.colour.argmax(1)
    found: list[tuple[FoundObject, ...]] = []
    cells = scores.shape[-1]
    for i in range(len(scores)):
        objects = []
        for row, column in peaks[i, 0].nonzero().tolist():
            dx, dy, width, height = maps.box[i, :, row, column].tolist()
            kind, hue = KINDS[int(shape[i, row, column])], COLOURS[int(colour[i, row, column])]
            x, y = (column + 0.5 + dx) / cells, (row + 0.5 + dy) / cells
            across, down = (math.exp(min(side, 0.0)) for side in (width, height))
            objects.append(FoundObject(kind, hue, x, y, across, down, float(scores[i, 0, row, column])))
        found.append(_distinct(sorted(objects, key=lambda obj: -obj.score))[:most])
    return found


def _distinct(objects: Sequence[FoundObject]) -> tuple[FoundObject, ...]:
    """Keep the objects that do not overlap an object with a higher score."""
    kept: list[FoundObject] = []
    for obj in objects:
        if all(_overlap(obj, other) <= _SAME for other in kept):
            kept.append(obj)
    return tuple(kept)


def _overlap(a: FoundObject, b: FoundObject) -> float:
    """Compute the intersection over union of two upright boxes."""
    across = min(a.x + a.width / 2, b.x + b.width / 2) - max(a.x - a.width / 2, b.x - b.width / 2)
    down = min(a.y + a.height / 2, b.y + b.height / 2) - max(a.y - a.height / 2, b.y - b.height / 2)
    common = max(across, 0.0) * max(down, 0.0)
    union = a.width * a.height + b.width * b.height - common
    return common / union if union > 0 else 0.0


class _Conv(nn.Sequential):
    """A 3 x 3 convolution with its norm and activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class _Residual(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _Conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))
