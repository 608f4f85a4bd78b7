"""Opens pipeline folders of this project."""

from __future__ import annotations

from pathlib import Path

import torch

from vlad_lightning.data.prompt_request import Request
from vlad_lightning.evaluation.systems.opened_system import OpenSystem, own_generators
from vlad_lightning.evaluation.systems.system_settings import DTYPES, SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.generation.prediction import check_requests
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.layout.picture_text import SAMPLER_SETTINGS
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.model_index import weights_hash


def open_pipeline(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open it with its own sampler, changed by the settings."""
    pipe: VLADPipeline = VLADPipeline.from_pretrained(folder)
    pipe.to(device)
    if settings.dtype != "float32":
        pipe.to(DTYPES[settings.dtype])
    given = {name: getattr(settings, name) for name in ("steps", "guidance_scale", "layout_scale")}
    sampler = pipe.sampler.changed(given)
    sampler.check(pipe.image_generator.schedule)
    system = pipe.system

    return OpenSystem(
        public_path(model),
        weights_hash(folder),
        system,
        SystemSampling(sampler, pipe.layout_sampler),
        {name: getattr(sampler, name) for name in SAMPLER_SETTINGS},
        torch.device(device).type,
        own_generators,
        lambda prompt: check_requests([Request("", "prompt", prompt)], system),
    )
