"""Sampling settings of the image generator: those of every sampler, and guidance, augmentation and speed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vlad_lightning.diffusion.guidance import ALWAYS, HierarchicalGuidance
from vlad_lightning.diffusion.objective import Schedule, check_rescale
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.limits import MOST_STEPS, check_idle, check_interval, check_share, check_whole


@dataclass(frozen=True)
class ImageSampler(Sampler):
    """A sampler with hierarchical guidance, noise on the layout's latent, and two options that speed up the backbone.

    Attributes:
        guidance_scale: guidance scale of the text; 1 means no guidance.
        layout_scale: guidance scale of the layout; 1 means no guidance.
        guidance_interval: (low, high) of the noise time t / T, of which 1 is pure noise: both scales act in the steps
            with low < t / T <= high. In the others the network is evaluated with both conditions only, as if both
            scales were 1 (arXiv 2404.07724). (0, 1) guides every step.
        guidance_rescale: phi in [0, 1] of rescaled guidance (arXiv 2305.08891, section 3.4); 0 is none. Only for
            networks that predict x0 or v (:func:`~vlad_lightning.diffusion.objective.check_rescale`).
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
    guidance_interval: tuple[float, float] = ALWAYS
    guidance_rescale: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("cache_interval", self.cache_interval, 1, MOST_STEPS)
        for name in ("guidance_scale", "layout_scale", "augmentation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        check_interval("guidance_interval", self.guidance_interval)
        check_share("guidance_rescale", self.guidance_rescale)

    def changed(self, given: Mapping[str, Any]) -> ImageSampler:
        """Return a copy with what a caller gives over a pipeline's own settings; None keeps a setting.

        A setting of the pipeline's that the caller's leave without an effect is dropped: whoever asks for both scales
        at 1 need not know that the pipeline rescales its guidance. The caller's own are kept, for :meth:`check`.

        Args:
            given: values of some of the attributes.

        Raises:
            ValueError: where a value is out of its range.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if not given:
            return self
        settings = replace(self, **given)
        for names, _ in settings._idle():
            dropped: dict[str, Any] = {
                field.name: field.default for field in fields(self) if field.name in set(names) - set(given)
            }
            settings = replace(settings, **dropped)
        return settings

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule that these settings do not fit, and settings without effect, before any work is done.

        Raises:
            ValueError: see :func:`~vlad_lightning.diffusion.solvers.check_solver` and
                :func:`~vlad_lightning.diffusion.objective.check_rescale`; for an interval or a rescaling while both
                scales are 1; and for a rescaling while ``guidance_scale`` is 0, since it compares with the prediction
                that has the text.
        """
        super().check(schedule)
        for names, why in self._idle():
            check_idle(self, names, why)
        check_rescale(schedule, self.guidance_rescale)

    def _idle(self) -> list[tuple[list[str], str]]:
        """Return the names of settings that have no effect beside the scales, with the reason."""
        idle = []
        if self.guidance_scale == self.layout_scale == 1:
            idle.append((["guidance_interval", "guidance_rescale"], "both scales are 1, so nothing is guided"))
        if self.guidance_scale == 0:
            idle.append((["guidance_rescale"], "guidance_scale is 0, so nothing is predicted with the text"))
        return idle

    @property
    def guidance(self) -> HierarchicalGuidance:
        """Hierarchical guidance with these settings."""
        return HierarchicalGuidance(
            self.guidance_scale, self.layout_scale, self.guidance_interval, self.guidance_rescale
        )
