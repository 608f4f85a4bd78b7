"""Opens a system of this project that has been trained and not exported: a module with its weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from vlad_lightning.evaluation.systems.opened_system import OpenSystem, own_generators
from vlad_lightning.evaluation.systems.system_settings import SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.layout.picture_text import SAMPLER_SETTINGS
from vlad_lightning.metrics.clip_score import weights_sha256
from vlad_lightning.modules.system_module import SystemModule


def open_trained(module: SystemModule, model: str, settings: SystemSettings, device: str) -> OpenSystem:
    """Open it with its own sampler, changed by the settings.

    Args:
        module: VLAD's stage 2 or a baseline, with its weights.
        model: its name, such as the checkpoint's path.
        settings: how it samples.
        device: where it runs.

    Raises:
        ValueError: naming a setting that does not suit it.
    """
    for name in ("controlnet", "layouts"):
        if getattr(settings, name) is not None:
            raise ValueError(f"--{name} is {getattr(settings, name)}, which a checkpoint does not take; leave it out")
    if settings.dtype != "float32":
        raise ValueError(f"--dtype is {settings.dtype!r}; a checkpoint is opened as 'float32', an export as any")
    images = module.sampling.images.changed(
        {name: getattr(settings, name) for name in ("steps", "guidance_scale", "layout_scale")}
    )
    module.check_sampler(images)
    module.requires_grad_(False).eval().to(device)
    return OpenSystem(
        public_path(model),
        weights_sha256(module),
        module.system,
        replace(module.sampling, images=images),
        {name: getattr(images, name) for name in SAMPLER_SETTINGS},
        torch.device(device).type,
        own_generators,
        module.check_prompt,
    )
