"""Opens TextDiffuser's published weights."""

from __future__ import annotations

from pathlib import Path

import torch

from vlad_lightning.baselines.textdiffuser_published import open_textdiffuser, textdiffuser_hash
from vlad_lightning.evaluation.systems.opened_system import OpenSystem, cpu_generators, refuse_layout_scale
from vlad_lightning.evaluation.systems.system_settings import DTYPES, SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling


def open_archive(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open its archive, with its authors' settings where none are given."""
    refuse_layout_scale(model, settings)
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
        cpu_generators,
        system.check_prompt,
    )
