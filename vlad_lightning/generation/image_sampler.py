"""How images are sampled: what layouts need as well, and what only an image generator has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlad_lightning.diffusion.guidance import HierarchicalGuidance
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.limits import MOST_STEPS, check_whole


@dataclass(frozen=True)
class ImageSampler(Sampler):
    """A sampler with hierarchical guidance, the layout's augmentation and the backbone's switches.

    Attributes:
        guidance_scale: the scale of the text; 1 is none.
        layout_scale: the scale of the layout; 1 is none.
        augmentation: the s of Eq. 6 at sampling time: the standard deviation of the noise on the layout's latent.
        cache_interval: the deep blocks of a UNet are evaluated at every this-many-th step and reused in between
            (:mod:`~vlad_lightning.models.painter.cache`); 1 evaluates all.
        fuse_qkv: queries, keys and values come from one product (:mod:`~vlad_lightning.models.painter.attention`).

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
        """The guidance with these scales."""
        return HierarchicalGuidance(self.guidance_scale, self.layout_scale)
