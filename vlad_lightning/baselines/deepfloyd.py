"""DeepFloyd IF as it is published: IF-I, IF-II and Stable Diffusion's x4 upscaler, behind one interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import IFPipeline, IFSuperResolutionPipeline, StableDiffusionUpscalePipeline
from torch import Tensor

from vlad_lightning.files import NOTE_BYTES, check_stored, naming, read_utf8
from vlad_lightning.generation.system import check_finite
from vlad_lightning.limits import MOST_STEPS, check_whole
from vlad_lightning.types import GeneratedImages, Layout

STAGES = {
    "IFPipeline": ("the first stage, such as DeepFloyd/IF-I-XL-v1.0", IFPipeline),
    "IFSuperResolutionPipeline": ("the second stage, such as DeepFloyd/IF-II-L-v1.0", IFSuperResolutionPipeline),
    "StableDiffusionUpscalePipeline": (
        "the third stage, stabilityai/stable-diffusion-x4-upscaler",
        StableDiffusionUpscalePipeline,
    ),
}
"""What each of the three folders is, by the class that its ``model_index.json`` names."""

_UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "watermarker": None}
_LEFT_OUT = {
    "IFPipeline": _UNCHECKED | {"requires_safety_checker": False},
    "IFSuperResolutionPipeline": _UNCHECKED
    | {"requires_safety_checker": False, "text_encoder": None, "tokenizer": None},  # it reads the first one's states
    "StableDiffusionUpscalePipeline": _UNCHECKED,
}
_SIZE, _CORNER = 512, 64  # pixels of MARIO-Eval: the side of an image, and of the corner with IF's mark


@dataclass(frozen=True)
class DeepFloydSampling:
    """Settings of the three stages; the defaults are those of IF's pipelines, and of the published table.

    Attributes:
        steps: sampling steps of the first, the second and the third stage.
        guidance_scales: their guidance scales of the text.
        second_noise: level of the noise on the second stage's small image, of 1000.
        third_noise: the same for the third stage.

    Raises:
        ValueError: if a number is out of its range.
    """

    steps: tuple[int, int, int] = (100, 50, 75)
    guidance_scales: tuple[float, float, float] = (7.0, 4.0, 9.0)
    second_noise: int = 250
    third_noise: int = 100

    def __post_init__(self) -> None:
        for count in self.steps:
            check_whole("steps", count, 1, MOST_STEPS)
        if not all(scale >= 0 for scale in self.guidance_scales):
            raise ValueError(f"guidance_scales is {self.guidance_scales}; each must be at least 0")
        check_whole("second_noise", self.second_noise, 0, 999)
        check_whole("third_noise", self.third_noise, 0, 999)


class DeepFloydSystem:
    """The three stages as a :class:`~vlad_lightning.types.TextToImage`.

    The images are those that MARIO-Eval scored: 512 px, and black in the last 64 x 64 px, where IF's own program puts
    a mark. Here no mark is put, but a word in that corner must count as little as it did there.

    Args:
        base: IF-I.
        upscaler: IF-II, without a text encoder: it reads the first stage's states.
        last: the x4 upscaler.
    """

    def __init__(
        self, base: IFPipeline, upscaler: IFSuperResolutionPipeline, last: StableDiffusionUpscalePipeline
    ) -> None:
        self.base, self.upscaler, self.last = base, upscaler, last
        for pipe in (base, upscaler, last):
            pipe.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: DeepFloydSampling,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate B images of 512 px, see :meth:`~vlad_lightning.types.TextToImage.generate`.

        Raises:
            ValueError: if layouts are given, or the images hold NaN or infinite values.
        """
        if layouts is not None and any(layout is not None for layout in layouts):
            raise ValueError("layouts are given, and DeepFloyd IF follows none")
        own: list[torch.Generator] = list(generators)
        first, second, third = zip(settings.steps, settings.guidance_scales, strict=True)
        states, empty = self.base.encode_prompt(list(prompts))  # in small letters
        told: dict[str, Any] = {
            "prompt_embeds": states,
            "negative_prompt_embeds": empty,
            "generator": own,
            "output_type": "pt",
        }
        small = self.base(num_inference_steps=first[0], guidance_scale=first[1], **told).images  # in [-1, 1]
        larger = self.upscaler(
            image=small,
            num_inference_steps=second[0],
            guidance_scale=second[1],
            noise_level=settings.second_noise,
            **told,
        ).images
        images = self.last(
            prompt=list(prompts),
            image=(larger / 2 + 0.5).clamp(0, 1),  # the upscaler takes [0, 1], whatever the darkest pixel
            num_inference_steps=third[0],
            guidance_scale=third[1],
            noise_level=settings.third_noise,
            generator=own,
            output_type="pt",
        ).images
        finished = as_scored(images.to("cpu", torch.float32) * 2 - 1)
        check_finite(finished)
        nothing = tuple(Layout.empty() for _ in prompts)
        return GeneratedImages(finished, nothing, torch.full_like(finished, -1.0), tuple(prompts))


def as_scored(images: Tensor) -> Tensor:
    """Return images as MARIO-Eval reads DeepFloyd's: at 512 px, with the corner of the mark in black.

    Args:
        images: (B, 3, H, W) float in [-1, 1].

    Returns:
        (B, 3, 512, 512) float in [-1, 1].
    """
    size = (_SIZE, _SIZE)
    if tuple(images.shape[-2:]) != size:
        images = F.interpolate(images, size, mode="bicubic", antialias=True)
    images = images.clamp(-1, 1)
    images[..., -_CORNER:, -_CORNER:] = -1
    return images


def find_stages(folder: Path) -> dict[str, Path]:
    """Return the folders of IF's stages within a folder, by their classes' names; empty if it has none of IF's own.

    Raises:
        ValueError: if there are two of one stage, or an index cannot be read.
    """
    found: dict[str, Path] = {}
    for index in sorted(folder.glob("*/model_index.json")):
        try:
            name = json.loads(read_utf8(index, NOTE_BYTES))["_class_name"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{index} is no index of a pipeline: {error}") from error
        if name in STAGES and name in found:
            raise ValueError(f"{folder} has two folders of {name}, {found[name].name} and {index.parent.name}")
        if name in STAGES:
            found[name] = index.parent
    return found if any(name.startswith("IF") for name in found) else {}


def open_deepfloyd(folder: Path, device: str, dtype: torch.dtype) -> DeepFloydSystem:
    """Open a folder that holds the three published folders, under any names; only safetensors are read.

    Safety checkers and watermarkers are not loaded.

    Args:
        folder: the folder that holds them.
        device: where they run.
        dtype: the format of the weights in memory.

    Raises:
        ValueError: naming the stage that is missing, or a file that cannot be used.
    """
    stages = find_stages(folder)
    for name, (what, _) in STAGES.items():
        if name not in stages:
            raise ValueError(
                f"{folder} has no folder of {name}, {what}; it needs all {len(STAGES)} stages of the cascade"
            )
    return DeepFloydSystem(*(_opened(stages[name], name, dtype).to(device) for name in STAGES))


def _opened(folder: Path, name: str, dtype: torch.dtype) -> Any:
    for part in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        check_stored(part)
    with naming(folder):
        return STAGES[name][1].from_pretrained(
            folder, use_safetensors=True, local_files_only=True, torch_dtype=dtype, **_LEFT_OUT[name]
        )
