"""Augmentation of true posters for the object detector: mirroring, noise, blur, and blobs.

Generated pictures are softer than true ones, and an object in them may have no shape at all. A detector that has seen
only sharp shapes calls everything one of them. So some posters get a blob, which has a colour but no shape: an object
of the kind None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.scene_objects import FIELDS, KINDS

NUMBERS = 22
"""Uniform random numbers per poster: 19 for its blob, 3 for the other changes."""

_WAVES = 5  # of the outline, from two bumps to six: one bump alone would move the centre
_LEAST_DIFFERENCE = 0.35  # of the blob's colour from the picture under it, in [-1, 1]
_NOTHING = KINDS.index(None)
_SHARPEST = 0.4  # share of the original in a blurred picture


@dataclass(frozen=True)
class ObjectAugmentation:
    """The augmentation of the posters that a detector is trained on.

    Attributes:
        blobs: share of the posters that get a blob, if there is room.
        noise: the largest standard deviation of the noise, in [-1, 1]; a poster's is drawn between 0 and this.
        blur: share of the posters that are blurred over 3 x 3 pixels.

    Raises:
        ValueError: if a number is out of its range.
    """

    blobs: float = 0.5
    noise: float = 0.08
    blur: float = 0.3

    def __post_init__(self) -> None:
        for name in ("blobs", "noise", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")

    def __call__(
        self, images: Tensor, things: Tensor, drawn: Tensor, noise: Tensor, palette: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Augment B posters.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            things: (B, M, 7) float: the posters' objects, see :data:`~vlad_lightning.layout.scene_objects.FIELDS`.
            drawn: (B, NUMBERS) float in [0, 1).
            noise: (B, 3, H, W) float, standard normal.
            palette: see :func:`palette_colours`.

        Returns:
            The pictures, and (B, M + 1, 7) float: their objects.
        """
        images, things = paint_blobs(images, things, drawn, self.blobs, palette)
        images, things = _mirror(images, things, drawn[:, 19] < 0.5)
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        mix = _SHARPEST + (1 - _SHARPEST) * (drawn[:, 20] >= self.blur)
        images = smooth + mix[:, None, None, None] * (images - smooth)
        return images + self.noise * drawn[:, 21, None, None, None] * noise, things


def palette_colours() -> Tensor:
    """Return the palette, (C, 3) float32 in [-1, 1]."""
    return torch.tensor(list(PALETTE.values())) / 127.5 - 1


def paint_blobs(images: Tensor, things: Tensor, drawn: Tensor, share: float, palette: Tensor) -> tuple[Tensor, Tensor]:
    """Paint a blob on some posters, if it touches no object and can be seen.

    Args:
        images: (B, 3, H, W) float in [-1, 1].
        things: (B, M, 7) float: the posters' objects, see
            :func:`~vlad_lightning.layout.scene_objects.encode_objects`.
        drawn: (B, NUMBERS) float in [0, 1); the first 19 decide on the blobs.
        share: share of the posters that should get a blob; posters without room get none.
        palette: (C, 3) float: the colours of :func:`palette_colours`, on the pictures' device.

    Returns:
        The pictures, and (B, M + 1, 7) float: their objects with the blob, an object of no shape, as the last.
    """
    radius = 0.07 + 0.11 * drawn[:, 0]  # of the frame
    x, y = (0.12 + 0.76 * drawn[:, i] for i in (1, 2))
    colour = (drawn[:, 3] * len(PALETTE)).long()
    fill = palette[colour] + 0.1 * (drawn[:, 4:7] - 0.5)  # (B, 3)
    mask = blob_masks(images.shape[-1], radius, x, y, drawn[:, 7:18])  # (B, H, W)
    under = (images * mask[:, None]).sum((2, 3)) / mask.sum((1, 2))[:, None].clamp(min=1.0)
    seen = (under - fill).abs().amax(1) >= _LEAST_DIFFERENCE
    apart = (things[..., 3:5] - torch.stack([x, y], -1)[:, None]).abs().amax(-1)  # (B, M)
    free = (apart > things[..., 5] / 2 + radius[:, None] + 0.02) | (things[..., 0] == 0)
    painted = (drawn[:, 18] < share) & seen & free.all(1)
    alpha = (mask * painted[:, None, None])[:, None]
    blob = torch.zeros(len(images), 1, FIELDS, device=things.device)
    values = (torch.ones_like(x), torch.full_like(x, _NOTHING), colour.float(), x, y, 2 * radius, 2 * radius)
    blob[:, 0] = torch.stack(values, dim=1) * painted[:, None]
    return images * (1 - alpha) + fill[:, :, None, None] * alpha, torch.cat([things, blob], dim=1)


def _mirror(images: Tensor, things: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the chosen (B,) posters left to right; a mirrored object keeps its noun."""
    turned = things.clone()
    turned[..., 3] = (1 - things[..., 3]) * things[..., 0]
    return (
        torch.where(chosen[:, None, None, None], images.flip(3), images),
        torch.where(chosen[:, None, None], turned, things),
    )


def blob_masks(side: int, radius: Tensor, x: Tensor, y: Tensor, drawn: Tensor) -> Tensor:
    """Draw closed curves of random waves with more or less soft edges.

    Args:
        side: side of the masks in pixels.
        radius: (B,) float: no point is further from the centre, in fractions of the frame.
        x: (B,) float: centres.
        y: (B,) float.
        drawn: (B, 11) float in [0, 1): five waves' heights and phases, and the softness.

    Returns:
        (B, side, side) float in [0, 1].
    """
    across = (torch.arange(side, device=drawn.device) + 0.5) / side
    dx, dy = across - x[:, None], across - y[:, None]  # (B, side)
    distance = (dx[:, None] ** 2 + dy[:, :, None] ** 2).sqrt()
    turn = torch.atan2(dy[:, :, None], dx[:, None])
    edge = torch.full_like(distance, 0.62)
    for wave in range(_WAVES):
        height = (0.12 + 0.3 * drawn[:, 2 * wave]) / math.sqrt(wave + 1)
        phase = 2 * math.pi * drawn[:, 2 * wave + 1]
        edge = edge + height[:, None, None] * torch.cos((wave + 2) * turn + phase[:, None, None])
    pixel = 1 / side
    softness = pixel * (0.5 + 2.5 * drawn[:, 10])[:, None, None]
    return ((edge.clamp(0.15, 1.0) * radius[:, None, None] - distance) / softness + 0.5).clamp(0, 1)
