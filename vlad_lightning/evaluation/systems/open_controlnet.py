"""Opens a Stable Diffusion that a ControlNet for Canny edges steers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch

from vlad_lightning.baselines.published_controlnet import PUBLISHED_SAMPLING, open_controlnet
from vlad_lightning.evaluation.diffusers_system import is_vlad
from vlad_lightning.evaluation.systems.opened_system import OpenSystem, cpu_generators, refuse_layout_scale
from vlad_lightning.evaluation.systems.system_settings import DTYPES, SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.model_index import weights_hash
from vlad_lightning.pretrained import find_weights


def open_steered(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open both, and the stage 1 that places the words whose edges steer.

    Raises:
        ValueError: if ``settings.layouts`` has no stage 1.
    """
    refuse_layout_scale(model, settings)
    controlnet, layouts = Path(str(settings.controlnet)), find_weights(str(settings.layouts))
    if not is_vlad(layouts):
        raise ValueError(f"--layouts is {settings.layouts}; it must be a system of this project, such as vlad-mini")
    placing: VLADPipeline = VLADPipeline.from_pretrained(layouts)
    layout_generator = placing.layout_generator
    if layout_generator is None:
        raise ValueError(f"--layouts is {settings.layouts}, which has no stage 1")
    system = open_controlnet(folder, controlnet, layout_generator, device, DTYPES[settings.dtype])
    given = {name: getattr(settings, name) for name in ("steps", "guidance_scale")}
    sampler = PUBLISHED_SAMPLING.images.changed(given)
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
        cpu_generators,
        check,
    )
