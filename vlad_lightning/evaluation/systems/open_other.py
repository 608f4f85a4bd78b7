"""Opens any other folder that diffusers loads."""

from __future__ import annotations

from pathlib import Path

import torch

from vlad_lightning.evaluation.diffusers_system import DiffusersSampling, open_diffusers
from vlad_lightning.evaluation.systems.opened_system import OpenSystem, cpu_generators, refuse_layout_scale
from vlad_lightning.evaluation.systems.system_settings import DTYPES, SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.limits import check_prompts
from vlad_lightning.pipeline.model_index import weights_hash


def open_other(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open it with its pipeline's own settings where none are given."""
    refuse_layout_scale(model, settings)
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
        cpu_generators,
        lambda prompt: check_prompts([prompt]),
    )
