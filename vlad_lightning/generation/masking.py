"""How the image generator learns inpainting: which samples have a region, and which regions there are."""

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
    """A share of the samples has a region that is generated while the rest is known; the others are generated whole.

    Half of a batch whole is TextDiffuser's share (arXiv 2305.10855): so one network generates from nothing and into a
    picture.

    Attributes:
        share: of the samples that have a region.
        word_share: of these, those whose region is made of words' boxes: one at random, each other with probability
            1/2. A sample without words, and the rest, have a rectangle.
        margin: how much a word's box grows on every side, in heights of the word.
        min_side: smallest width and height of a rectangle, in fractions of the frame.
        max_side: largest.

    Raises:
        ValueError: where a value is out of its range, or does nothing beside the others.
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
        """A region for each sample.

        Args:
            layouts: the words of B samples.
            size: height and width of the masks in pixels.
            generators: the randomness of the B rows; the masks are on its device.

        Returns:
            (B, 1, H, W) bool, True where the sample is generated: everywhere for one without a region.
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
        # words that lie outside the frame, or none at all, leave nothing to generate
        from_words = (u[:, 1] < self.word_share) & by_words.flatten(1).any(dim=1)
        masks = torch.where(from_words.view(-1, 1, 1, 1), by_words, by_rectangle)
        return masks | whole.view(-1, 1, 1, 1)

    def _rectangles(self, u: Tensor) -> Tensor:
        """(B, 1, 5): upright boxes inside the frame, of ``u`` (B, 4) in [0, 1)."""
        sides = self.min_side + (self.max_side - self.min_side) * u[:, :2]
        centres = sides / 2 + (1 - sides) * u[:, 2:]
        return torch.cat([centres, sides, torch.zeros_like(u[:, :1])], dim=1)[:, None]
