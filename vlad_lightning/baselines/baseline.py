"""What all systems that VLAD is compared with have in common: one interface to train them, and one to sample them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.system import SystemSampling, check_finite, given_layouts, resolve_layouts
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.limits import MOST_SIDE, check_idle, check_whole
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Batch, GeneratedImages, Layout


class Baseline(nn.Module, ABC):
    """A text-to-image system that is trained and sampled like VLAD: a :class:`~vlad_lightning.types.TextToImage`.

    A subclass implements :meth:`losses`, :meth:`sample` and, if its sampling settings have limits, :meth:`check`.

    Args:
        image_size: H = W in pixels.
        layout_generator: places the words where no layout is given, frozen: VLAD's stage 1. None leaves images without
            a given layout without words to place. Only for a system that uses layouts.
        rasterizer: draws layouts as glyph maps.

    Attributes:
        uses_layouts: whether the system follows a layout; one that does not refuses given layouts.

    Raises:
        ValueError: if ``image_size`` is out of its range, or a layout generator is given to a system without layouts.
    """

    uses_layouts: ClassVar[bool] = False

    def __init__(
        self,
        image_size: int,
        layout_generator: LayoutGenerator | None = None,
        rasterizer: Rasterizer = Rasterizer(),
    ) -> None:
        super().__init__()
        check_whole("image_size", image_size, 1, MOST_SIDE)
        if layout_generator is not None and not self.uses_layouts:
            raise ValueError(f"layout_generator is given; a {type(self).__name__} uses no layouts")
        self.image_size = image_size
        self.layout_generator = None if layout_generator is None else layout_generator.requires_grad_(False)
        self.rasterizer = rasterizer

    @abstractmethod
    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Compute the losses of one batch.

        Args:
            batch: B samples.
            generators: random generators of the B rows, the only source of randomness.

        Returns:
            () float32 each, by name: ``loss`` is the one to minimise, the others are its parts.
        """

    @abstractmethod
    def sample(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Sample the images of B prompts.

        Args:
            prompts: B prompts.
            layouts: B layouts; all are empty for a system without layouts.
            sampler: steps and scales.
            generators: B generators on the CPU, the only source of randomness; each image depends only on its own.

        Returns:
            (B, 3, H, W) float32 in [-1, 1].
        """

    def check(self, sampler: ImageSampler) -> None:
        """Refuse sampling settings that do not fit, before any work is done; here those that only VLAD has.

        Raises:
            ValueError: naming the setting.
        """
        why = f"a {type(self).__name__} has no such setting"
        if sampler.layout_scale != 1:
            raise ValueError(f"layout_scale is {sampler.layout_scale}; it must be 1.0: {why}")
        check_idle(sampler, ["augmentation", "cache_interval", "fuse_qkv"], why)

    @property
    def encoder(self) -> nn.Module | None:
        """The part that learns at ``encoder_lr``; None if there is none."""
        return None

    @property
    def parser(self) -> PromptParser | None:
        """The parser with which a data loader parses the prompts of a batch; None leaves them as strings."""
        return None

    @property
    def prompt_encoders(self) -> dict[str, PromptEncoder]:
        """All prompt encoders of the system, by their dotted names; each needs a tokenizer."""
        return {name: part for name, part in self.named_modules() if isinstance(part, PromptEncoder)}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def draw_glyphs(self, layouts: Sequence[Layout]) -> Tensor:
        """Draw the words of B layouts, white on black, (B, 3, H, W) float32 in [-1, 1] on the system's device."""
        size = (self.image_size, self.image_size)
        drawn = [self.rasterizer(layout, size) for layout in layouts]
        return glyph_images(torch.stack(drawn).to(self.device))

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: SystemSampling,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate ``B`` images; each depends only on its prompt, its layout and its generator, up to rounding.

        Args:
            prompts: B prompts.
            layouts: B layouts, with None for each one to generate; None generates all of them.
            settings: how layouts and images are sampled.
            generators: B generators on the CPU, the only source of randomness; each is used for the layout first.

        Raises:
            ValueError: where there are not B layouts or generators, a layout is given to a system without layouts, or
                the images hold NaN or infinite values.
        """
        given = given_layouts(prompts, layouts, generators)
        if not self.uses_layouts and any(layout is not None for layout in given):
            raise ValueError(f"layouts is given; a {type(self).__name__} uses none")
        resolved = resolve_layouts(self.layout_generator, prompts, given, settings.layouts, generators)
        images = self.sample(prompts, resolved, settings.images, generators)
        check_finite(images)
        return GeneratedImages(images, tuple(resolved), self.draw_glyphs(resolved), tuple(prompts))
