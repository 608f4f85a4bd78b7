"""Sampling settings of the image generator: those of every sampler, and guidance, augmentation and speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlad_lightning.diffusion.guidance import HierarchicalGuidance
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.limits import MOST_STEPS, check_whole


@dataclass(frozen=True)
class ImageSampler(Sampler):
    """A sampler with hierarchical guidance, noise on the layout's latent, and two options that speed up the backbone.

    Attributes:
        guidance_scale: guidance scale of the text; 1 means no guidance.
        layout_scale: guidance scale of the layout; 1 means no guidance.
        augmentation: s of Eq. 6 at sampling time, the standard deviation of the noise on the layout's latent.
        cache_interval: the deep blocks of a UNet are evaluated at every ``cache_interval``-th step and reused in
            between (:mod:`~vlad_lightning.models.painter.cache`); 1 evaluates them at every step.
        fuse_qkv: compute queries, keys and values in one matrix product
            (:mod:`~vlad_lightning.models.painter.attention`).

    Raises:
        ValueError: where a value is out of its range.
    """

    guidance_scale: float = 1.0
    layout_scale: float = 1.0
    augmentation: float = 0.0
    cache_interval: int = 1
    fuse_qkv: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("cache_interval", self.cache_interval, 1, MOST_STEPS)
        for name in ("guidance_scale", "layout_scale", "augmentation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")

    @property
    def guidance(self) -> HierarchicalGuidance:
        """Hierarchical guidance with these scales."""
        return HierarchicalGuidance(self.guidance_scale, self.layout_scale)
