"""Systems to evaluate, opened by name: a pipeline folder of this project, or any that diffusers loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from vlad_lightning.baselines.deepfloyd import DeepFloydSampling, find_stages, open_deepfloyd
from vlad_lightning.baselines.published_controlnet import PUBLISHED_SAMPLING, open_controlnet
from vlad_lightning.baselines.textdiffuser_published import is_textdiffuser, open_textdiffuser, textdiffuser_hash
from vlad_lightning.data.prompt_request import Request
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.evaluation.diffusers_system import DiffusersSampling, is_vlad, open_diffusers
from vlad_lightning.files import public_path
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.prediction import check_requests
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.layout.picture_text import SAMPLER_SETTINGS
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import MOST_STEPS, check_prompts, check_whole
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.model_index import weights_hash
from vlad_lightning.pretrained import find_weights
from vlad_lightning.types import TextToImage

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""The formats of weights by name."""


@dataclass(frozen=True)
class SystemSettings:
    """How a system is opened and samples; None leaves a setting to the system.

    Attributes:
        steps: sampling steps.
        guidance_scale: guidance scale of the text.
        layout_scale: guidance scale of the layout; only for systems of this project.
        device: where it runs; None is a GPU if there is one.
        dtype: the format of its weights, one of :data:`DTYPES`.
        controlnet: folder of a ControlNet for Canny edges that steers the model, a Stable Diffusion; None is none.
        layouts: a system of this project whose stage 1 places the words for the ControlNet.

    Raises:
        ValueError: naming the setting.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    layout_scale: float | None = None
    device: str | None = None
    dtype: str = "float32"
    controlnet: str | None = None
    layouts: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_whole("--steps", self.steps, 1, MOST_STEPS)
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype is {self.dtype!r}; allowed are {', '.join(DTYPES)}")
        if (self.controlnet is None) != (self.layouts is None):
            raise ValueError(
                f"--controlnet is {self.controlnet} and --layouts {self.layouts}; both are needed, or neither: edges "
                "are those of words that stage 1 of a system of this project has placed"
            )


@dataclass(frozen=True)
class OpenSystem:
    """A system that is ready to generate.

    Attributes:
        name: the model's name, without private folders.
        weights_sha256: hash of its weights.
        system: generates images.
        sampling: the settings it is called with.
        shown: the same by name, for texts and files.
        device: the kind of device it runs on.
        generators: generators for seeds and prompts: those with which the system's own program makes the same image.
        check: refuses a prompt that the system cannot draw, by a ValueError.
    """

    name: str
    weights_sha256: str
    system: TextToImage[Any]
    sampling: Any
    shown: Mapping[str, object]
    device: str
    generators: Callable[[Sequence[int], Sequence[str]], list[torch.Generator]]
    check: Callable[[str], None]


def open_system(model: str, settings: SystemSettings) -> OpenSystem:
    """Open a system.

    Args:
        model: a folder, or the name of shipped weights.
        settings: how it is opened and samples.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it cannot be used, or a setting does not suit it.
    """
    folder = find_weights(model)
    if not folder.is_dir():
        raise FileNotFoundError(f"--model {model} is no folder; allowed are one that diffusers loads, and vlad-mini")
    device = _device(settings.device)
    if is_textdiffuser(folder):
        open_folder = _open_textdiffuser
    elif find_stages(folder):
        open_folder = _open_deepfloyd
    else:
        open_folder = _open_vlad if is_vlad(folder) else _open_other
    if settings.controlnet is not None:
        if open_folder is not _open_other:
            raise ValueError(f"--controlnet is {settings.controlnet}, and {model} is no Stable Diffusion; leave it out")
        open_folder = _open_controlnet
    return open_folder(model, folder, settings, device)


def _device(name: str | None) -> str:
    """Return the device; the GPU is the one of this task's number on its machine."""
    from vlad_lightning.evaluation.shards import local_rank

    if name is None:
        name = f"cuda:{local_rank() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise ValueError(f"--device {name} cannot be used here: {' '.join(str(error).split())[:200]}") from error
    return name


def _open_vlad(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    pipe: VLADPipeline = VLADPipeline.from_pretrained(folder)
    pipe.to(device)
    if settings.dtype != "float32":
        pipe.to(DTYPES[settings.dtype])
    given = {name: getattr(settings, name) for name in ("steps", "guidance_scale", "layout_scale")}
    sampler = replace(pipe.sampler, **{name: value for name, value in given.items() if value is not None})
    sampler.check(pipe.image_generator.schedule)
    system = pipe.system

    def generators(seeds: Sequence[int], prompts: Sequence[str]) -> list[torch.Generator]:
        """Return those of ``vlad-cli generate PROMPT --seed SEED``."""
        pairs = zip(seeds, prompts, strict=True)
        return [generator for seed, prompt in pairs for generator in sampling_generators(seed, [(prompt, 0)])]

    return OpenSystem(
        public_path(model),
        weights_hash(folder),
        system,
        SystemSampling(sampler, pipe.layout_sampler),
        {name: getattr(sampler, name) for name in SAMPLER_SETTINGS},
        torch.device(device).type,
        generators,
        lambda prompt: check_requests([Request("", "prompt", prompt)], system),
    )


def _open_textdiffuser(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    _refuse_layout_scale(model, settings)
    system = open_textdiffuser(folder).to(device, DTYPES[settings.dtype])
    scale = 7.5 if settings.guidance_scale is None else settings.guidance_scale  # its authors' settings, with DDPM
    sampler = ImageSampler(steps=settings.steps or 50, guidance_scale=scale, eta=1.0)
    system.check(sampler)
    return OpenSystem(
        public_path(model),
        textdiffuser_hash(folder),
        system,
        SystemSampling(sampler),
        {"steps": sampler.steps, "guidance_scale": sampler.guidance_scale, "system": "TextDiffuser"},
        torch.device(device).type,
        _cpu_generators,
        system.check_prompt,
    )


def _open_deepfloyd(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open the three stages; ``--steps`` and ``--guidance_scale`` are the first one's, the others keep IF's."""
    _refuse_layout_scale(model, settings)
    system = open_deepfloyd(folder, device, DTYPES[settings.dtype])
    usual = DeepFloydSampling()
    first = usual.guidance_scales[0] if settings.guidance_scale is None else settings.guidance_scale
    sampling = replace(
        usual,
        steps=(settings.steps or usual.steps[0], *usual.steps[1:]),
        guidance_scales=(first, *usual.guidance_scales[1:]),
    )
    hashes = "".join(f"{weights_hash(stage)}  {name}\n" for name, stage in sorted(find_stages(folder).items()))
    return OpenSystem(
        public_path(model),
        sha256(hashes.encode()).hexdigest(),
        system,
        sampling,
        {"steps": sampling.steps[0], "guidance_scale": first, "pipeline": "DeepFloyd IF, three stages"},
        torch.device(device).type,
        _cpu_generators,
        lambda prompt: check_prompts([prompt]),
    )


def _open_controlnet(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    _refuse_layout_scale(model, settings)
    controlnet, layouts = Path(str(settings.controlnet)), find_weights(str(settings.layouts))
    if not is_vlad(layouts):
        raise ValueError(f"--layouts is {settings.layouts}; it must be a system of this project, such as vlad-mini")
    placing: VLADPipeline = VLADPipeline.from_pretrained(layouts)
    layout_generator = placing.layout_generator
    if layout_generator is None:
        raise ValueError(f"--layouts is {settings.layouts}, which has no stage 1")
    system = open_controlnet(folder, controlnet, layout_generator, device, DTYPES[settings.dtype])
    given = {name: getattr(settings, name) for name in ("steps", "guidance_scale")}
    sampler = replace(PUBLISHED_SAMPLING.images, **{name: value for name, value in given.items() if value is not None})
    system.check(sampler)

    def check(prompt: str) -> None:
        check_prompts([prompt])
        layout_generator.check([prompt])
        system.rasterizer.check(drawn_words(prompt))

    own = sorted(controlnet.glob("*.safetensors"))
    hashes = [weights_hash(folder), *(sha256(file.read_bytes()).hexdigest() for file in own), weights_hash(layouts)]
    return OpenSystem(
        f"{public_path(model)} with {public_path(str(controlnet))}",
        sha256(" ".join(hashes).encode()).hexdigest(),
        system,
        SystemSampling(sampler, placing.layout_sampler),
        {
            "steps": sampler.steps,
            "guidance_scale": sampler.guidance_scale,
            "controlnet": public_path(str(controlnet)),
            "layouts": public_path(str(settings.layouts)),
        },
        torch.device(device).type,
        _cpu_generators,
        check,
    )


def _cpu_generators(seeds: Sequence[int], prompts: Sequence[str]) -> list[torch.Generator]:
    """Return those that a caller of the pipeline would make of the seeds, on the CPU."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _refuse_layout_scale(model: str, settings: SystemSettings) -> None:
    if settings.layout_scale is not None:
        raise ValueError(f"--layout_scale is {settings.layout_scale}, which {model} does not have; leave it out")


def _open_other(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    _refuse_layout_scale(model, settings)
    system = open_diffusers(folder, device, DTYPES[settings.dtype])
    sampling = DiffusersSampling(settings.steps, settings.guidance_scale)
    system.check(sampling)
    return OpenSystem(
        public_path(model),
        weights_hash(folder),
        system,
        sampling,
        {"steps": settings.steps, "guidance_scale": settings.guidance_scale, "pipeline": type(system.pipe).__name__},
        torch.device(device).type,
        _cpu_generators,
        lambda prompt: check_prompts([prompt]),
    )
