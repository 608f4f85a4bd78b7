"""The whole system of Eq. 1: P(I | T) = P(I | Z_T) P(Z_T | T)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vlad_lightning.diffusion.generators import Key, numbered, sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.layout.unquoted_words import with_quotes
from vlad_lightning.types import GeneratedImages, Layout, MaskedImages, TextToImage

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class SystemSampling:
    """Sampling settings of the whole system.

    Attributes:
        images: sampler of the images.
        layouts: sampler of the layouts that are not given.
    """

    images: ImageSampler = ImageSampler()
    layouts: Sampler = Sampler()


@dataclass(frozen=True)
class VLADSystem:
    """VLAD as a :class:`~vlad_lightning.types.TextToImage`, used by test, predict and the exported pipeline.

    Attributes:
        image_generator: prompts and layouts to images.
        layout_generator: prompts to layouts; if None, layouts that are not given are empty.
    """

    image_generator: ImageGenerator
    layout_generator: LayoutGenerator | None = None

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: SystemSampling,
        generators: Sequence[torch.Generator],
        masked_images: MaskedImages | None = None,
        controls: Controls = Controls(),
    ) -> GeneratedImages:
        """Generate ``B`` images; each depends only on its prompt, its layout and its generator, up to rounding.

        Words that a prompt without quotes seems to ask for are put into quotes first
        (:func:`~vlad_lightning.layout.unquoted_words.with_quotes`); the images are returned with the caller's prompts.

        Args:
            prompts: B prompts.
            layouts: B layouts, with None for each one to generate; None generates all of them.
            settings: how layouts and images are sampled.
            generators: B generators, the only source of randomness; each is used for the layout first.
            masked_images: see :meth:`~vlad_lightning.generation.image_generator.ImageGenerator.generate`.
            controls: what the caller adds.

        Raises:
            ValueError: where there are not B layouts or generators, or the images hold NaN or infinite values.
        """
        given = given_layouts(prompts, layouts, generators)
        read = [with_quotes(prompt) for prompt in prompts]
        used = [self.layout_generator] if self.layout_generator and any(layout is None for layout in given) else []
        with controls.resident(*used):
            resolved = resolve_layouts(self.layout_generator, read, given, settings.layouts, generators, controls.size)
        generated = self.image_generator.generate(read, resolved, settings.images, generators, masked_images, controls)
        check_finite(generated.images)
        return replace(generated, prompts=tuple(prompts))


def given_layouts(
    prompts: Sequence[str], layouts: Sequence[Layout | None] | None, generators: Sequence[torch.Generator]
) -> list[Layout | None]:
    """Return one entry per prompt: its given layout, or None.

    Args:
        prompts: B prompts.
        layouts: B layouts, with None for each one to generate; None generates all of them.
        generators: B generators.

    Raises:
        ValueError: where there are not B layouts or generators.
    """
    given: list[Layout | None] = [None] * len(prompts) if layouts is None else list(layouts)
    for name, entries in (("layouts", given), ("generators", generators)):
        if len(entries) != len(prompts):
            raise ValueError(f"{name} has {len(entries)} entries; {len(prompts)} prompts need one each")
    return given


def resolve_layouts(
    layout_generator: LayoutGenerator | None,
    prompts: Sequence[str],
    layouts: Sequence[Layout | None],
    sampler: Sampler,
    generators: Sequence[torch.Generator],
    size: tuple[int, int] | None = None,
) -> list[Layout]:
    """Return B layouts, with the missing ones generated, or empty without a layout generator.

    Args:
        layout_generator: generates them.
        prompts: B prompts.
        layouts: B layouts, None for each one to generate.
        sampler: sampler of the layouts.
        generators: B generators.
        size: height and width of the images; None is a square.
    """
    rows = [row for row, layout in enumerate(layouts) if layout is None]
    generated: Sequence[Layout] = (Layout.empty(),) * len(rows)
    if rows and layout_generator is not None:
        asked = [prompts[row] for row in rows]
        generated = layout_generator.sample(asked, sampler, [generators[row] for row in rows], size)
    made = iter(generated)
    return [next(made) if layout is None else layout for layout in layouts]


def generate_named(
    system: TextToImage[_Settings],
    prompts: Sequence[str],
    keys: Sequence[str],
    settings: _Settings,
    seed: int,
    layouts: Sequence[Layout | None] | None = None,
) -> GeneratedImages:
    """Generate ``B`` prompts and name the images by their keys, as every test does.

    Args:
        system: generates the images.
        prompts: B prompts.
        keys: B names, which determine the noise together with ``seed``; without keys the prompts determine it.
        settings: settings of the system.
        seed: seed of the noise.
        layouts: B layouts; None leaves them to the system.
    """
    names: Sequence[Key] = [(key,) for key in keys] or numbered(prompts)
    return system.generate(prompts, layouts, settings, sampling_generators(seed, names)).named(keys)


def check_finite(images: Tensor) -> None:
    """Refuse generated images with NaN or infinite values, which an image file would show as black.

    Args:
        images: (B, 3, H, W) float.

    Raises:
        ValueError: naming how many images hold such values.
    """
    finite = images.isfinite().flatten(1).all(1)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(images)} generated images hold NaN or infinite values: the weights are "
            "damaged (a training that diverged?), or the numbers overflow in this precision"
        )
