"""The published ControlNet for Canny edges over Stable Diffusion, through diffusers, behind VLAD's interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UniPCMultistepScheduler
from torch import Tensor

from vlad_lightning.baselines.controlnet import canny_edges
from vlad_lightning.files import check_stored, naming
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.system import SystemSampling, check_finite, given_layouts, resolve_layouts
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.limits import check_idle
from vlad_lightning.types import GeneratedImages, Layout

PUBLISHED_SAMPLING = SystemSampling(ImageSampler(steps=20, guidance_scale=7.5))
"""The settings of the published comparison, with UniPC."""


_TAKEN = ("steps", "guidance_scale", "layout_scale")  # of an image sampler's settings


class PublishedControlNet:
    """A pipeline of Stable Diffusion and ControlNet that draws the words of a layout.

    Args:
        pipe: the pipeline; its scheduler is replaced by UniPC.
        layout_generator: places the words where no layout is given: VLAD's stage 1.
        rasterizer: draws layouts as glyph maps.
    """

    def __init__(
        self,
        pipe: StableDiffusionControlNetPipeline,
        layout_generator: LayoutGenerator,
        rasterizer: Rasterizer = Rasterizer(),
    ) -> None:
        pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.layout_generator = layout_generator
        self.rasterizer = rasterizer

    @property
    def image_size(self) -> int:
        """H = W in pixels that the weights were trained at."""
        return int(self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor)

    def check(self, sampler: ImageSampler) -> None:
        """Refuse settings that only VLAD has.

        Raises:
            ValueError: naming the setting.
        """
        why = "the published ControlNet has no such setting"
        if sampler.layout_scale != 1:
            raise ValueError(f"layout_scale is {sampler.layout_scale}; it must be 1.0: {why}")
        names = [field.name for field in fields(sampler) if field.name not in _TAKEN]
        check_idle(sampler, names, why)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: SystemSampling,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate B images, see :meth:`~vlad_lightning.types.TextToImage.generate`.

        Raises:
            ValueError: where there are not B layouts or generators, or the images hold NaN or infinite values.
        """
        given = given_layouts(prompts, layouts, generators)
        resolved = resolve_layouts(self.layout_generator, prompts, given, settings.layouts, generators)
        size = (self.image_size, self.image_size)
        glyphs = glyph_images(torch.stack([self.rasterizer(layout, size) for layout in resolved]))
        made: Tensor = self.pipe(
            prompt=list(prompts),
            image=canny_edges(glyphs),
            num_inference_steps=settings.images.steps,
            guidance_scale=settings.images.guidance_scale,
            generator=list(generators),
            output_type="pt",
        ).images
        images = made.to("cpu", torch.float32) * 2 - 1
        check_finite(images)
        return GeneratedImages(images, tuple(resolved), glyphs, tuple(prompts))


def open_controlnet(
    folder: Path, controlnet: Path, layout_generator: LayoutGenerator, device: str, dtype: torch.dtype
) -> PublishedControlNet:
    """Open Stable Diffusion and a ControlNet; only safetensors are read, and no code of the folders is run.

    Args:
        folder: of Stable Diffusion, with a ``model_index.json``.
        controlnet: of the ControlNet, such as ``lllyasviel/sd-controlnet-canny``.
        layout_generator: places the words where no layout is given.
        device: where it runs.
        dtype: the format of its weights in memory.

    Raises:
        FileNotFoundError: naming what a folder lacks.
        ValueError: if the weights are truncated or do not fit each other.
    """
    for path, name in ((folder, "model_index.json"), (controlnet, "config.json")):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} has no {name}; it must be a folder as diffusers publishes it")
    for part in (controlnet, *sorted(path for path in folder.iterdir() if path.is_dir())):
        check_stored(part)
    stored: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "torch_dtype": dtype}
    with naming(controlnet):
        copy = ControlNetModel.from_pretrained(controlnet, **stored)
    with naming(folder):
        pipe = StableDiffusionControlNetPipeline.from_pretrained(
            folder, controlnet=copy, safety_checker=None, requires_safety_checker=False, **stored
        )
    own, other = copy.config.cross_attention_dim, pipe.unet.config.cross_attention_dim
    if own != other:
        raise ValueError(f"{controlnet} attends to text of width {own}; the unet of {folder} to {other}")
    return PublishedControlNet(pipe.to(device), layout_generator.to(device))
