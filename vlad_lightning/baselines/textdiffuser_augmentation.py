"""Augmentation of TextDiffuser's segmentations, so that the image generator follows them loosely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.limits import check_share


@dataclass(frozen=True)
class SegmentationAugmentation:
    """Shares of the segmentations that are dilated, eroded, or lose single pixels; the others stay as they are.

    Attributes:
        dilated: share that is dilated by a square of 3 x 3 pixels; of two characters the greater class wins.
        eroded: share that is eroded by it.
        dropped: share that loses pixels.
        dropped_pixels: share of the pixels that these lose.

    Raises:
        ValueError: where a share is outside [0, 1], or the first three sum to more than 1.
    """

    dilated: float = 0.1
    eroded: float = 0.1
    dropped: float = 0.1
    dropped_pixels: float = 0.1

    def __post_init__(self) -> None:
        for name in ("dilated", "eroded", "dropped", "dropped_pixels"):
            check_share(name, getattr(self, name))
        total = self.dilated + self.eroded + self.dropped
        if total > 1:
            raise ValueError(f"dilated + eroded + dropped is {total}; it must be at most 1")

    def __call__(self, characters: Tensor, generators: SampleGenerators) -> Tensor:
        """Augment segmentations.

        Args:
            characters: (B, H, W) int64 classes.
            generators: random generators of the B rows.

        Returns:
            (B, H, W) int64.
        """
        u = generators.uniform()[:, None, None]
        lost = generators.uniform(*characters.shape[1:]) < self.dropped_pixels
        levels = characters.float()  # exact, as classes are small
        dilated = F.max_pool2d(levels, 3, stride=1, padding=1)
        eroded = -F.max_pool2d(-levels, 3, stride=1, padding=1)
        low, high = self.dilated, self.dilated + self.eroded
        changed = torch.where(u < low, dilated, torch.where(u < high, eroded, levels)).long()
        return changed.masked_fill(lost & (u >= high) & (u < high + self.dropped), 0)
