"""Random regions for training the image generator on inpainting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.layout.masks import box_masks, grown
from vlad_lightning.limits import check_idle
from vlad_lightning.types import Layout


@dataclass(frozen=True)
class Masking:
    """Distribution of the inpainting regions: a share of the samples has a region, the others are generated whole.

    By default half of the samples are generated whole, as in TextDiffuser (arXiv 2305.10855), so that one network
    learns to generate both whole images and regions of a picture.

    Attributes:
        share: share of the samples that have a region.
        word_share: share of these whose region is made of words' boxes: one word at random, and each other word with
            probability 1/2. The rest, and samples without words, have a rectangle.
        margin: how much a word's box grows on every side, in heights of the word.
        min_side: smallest width and height of a rectangle, in fractions of the frame.
        max_side: largest width and height of a rectangle, in fractions of the frame.

    Raises:
        ValueError: where a value is out of its range, or has no effect with the others.
    """

    share: float = 0.5
    word_share: float = 0.5
    margin: float = 0.25
    min_side: float = 0.2
    max_side: float = 0.8

    def __post_init__(self) -> None:
        for name in ("share", "word_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin is {self.margin}; it must be at least 0")
        if self.share == 0:
            check_idle(self, ["word_share", "margin", "min_side", "max_side"], "no sample has a region: share is 0")
        if self.word_share == 0:
            check_idle(self, ["margin"], "no region is made of words: word_share is 0")
        if not 0 < self.min_side <= self.max_side <= 1:
            raise ValueError(
                f"min_side and max_side are {self.min_side} and {self.max_side}; "
                "0 < min_side <= max_side <= 1 is needed"
            )

    def draw(self, layouts: Sequence[Layout], size: tuple[int, int], generators: SampleGenerators) -> Tensor:
        """Draw a region for each sample.

        Args:
            layouts: layouts of B samples.
            size: height and width of the masks in pixels.
            generators: random generators of the B rows; the masks are on their device.

        Returns:
            (B, 1, H, W) bool, True where the sample is generated: everywhere for a sample without a region.
        """
        device = generators.device
        u = generators.uniform(6)
        whole = u[:, 0] >= self.share
        by_rectangle = box_masks(self._rectangles(u[:, 2:]), torch.ones_like(u[:, :1], dtype=torch.bool), size)
        lengths = [len(layout) for layout in layouts]
        by_words = torch.zeros_like(by_rectangle)
        if max(lengths) > 0:
            boxes = pad_sequence([layout.boxes for layout in layouts], batch_first=True)  # (B, N, 5)
            boxes = boxes.to(device, non_blocking=True)
            chance = pad_sequence(generators.uniforms(lengths), batch_first=True, padding_value=2.0)
            kept = (chance < 0.5) | ((chance == chance.amin(dim=1, keepdim=True)) & (chance < 1))
            by_words = box_masks(grown(boxes, self.margin), kept, size)
        # without words, or with words outside the frame only, the region would be empty
        from_words = (u[:, 1] < self.word_share) & by_words.flatten(1).any(dim=1)
        masks = torch.where(from_words.view(-1, 1, 1, 1), by_words, by_rectangle)
        return masks | whole.view(-1, 1, 1, 1)

    def _rectangles(self, u: Tensor) -> Tensor:
        """Turn ``u`` (B, 4) in [0, 1) into upright boxes inside the frame, (B, 1, 5)."""
        sides = self.min_side + (self.max_side - self.min_side) * u[:, :2]
        centres = sides / 2 + (1 - sides) * u[:, 2:]
        return torch.cat([centres, sides, torch.zeros_like(u[:, :1])], dim=1)[:, None]
