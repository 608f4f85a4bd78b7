"""Opens a folder of DeepFloyd IF's three published stages."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from vlad_lightning.baselines.deepfloyd import DeepFloydSampling, find_stages, open_deepfloyd
from vlad_lightning.evaluation.systems.opened_system import OpenSystem, cpu_generators, refuse_layout_scale
from vlad_lightning.evaluation.systems.system_settings import DTYPES, SystemSettings
from vlad_lightning.files import public_path
from vlad_lightning.limits import check_prompts
from vlad_lightning.pipeline.model_index import weights_hash


def open_stages(model: str, folder: Path, settings: SystemSettings, device: str) -> OpenSystem:
    """Open the three stages; ``--steps`` and ``--guidance_scale`` are the first one's, the others keep IF's."""
    refuse_layout_scale(model, settings)
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
        cpu_generators,
        lambda prompt: check_prompts([prompt]),
    )
