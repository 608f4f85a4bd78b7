"""Opens a system, whichever kind it is: by its folder or name, or from a module with trained weights."""

from __future__ import annotations

import torch

from vlad_lightning.baselines.deepfloyd import find_stages
from vlad_lightning.baselines.textdiffuser_published import is_textdiffuser
from vlad_lightning.evaluation.diffusers_system import is_vlad
from vlad_lightning.evaluation.shards import local_rank
from vlad_lightning.evaluation.systems.open_controlnet import open_steered
from vlad_lightning.evaluation.systems.open_deepfloyd import open_stages
from vlad_lightning.evaluation.systems.open_other import open_other
from vlad_lightning.evaluation.systems.open_own import open_pipeline
from vlad_lightning.evaluation.systems.open_textdiffuser import open_archive
from vlad_lightning.evaluation.systems.open_trained import open_trained
from vlad_lightning.evaluation.systems.opened_system import OpenSystem
from vlad_lightning.evaluation.systems.system_settings import SystemSettings
from vlad_lightning.modules.system_module import SystemModule
from vlad_lightning.pretrained import find_weights


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
        raise FileNotFoundError(
            f"--model {model} is no folder; allowed are one that diffusers loads, vlad-mini, and a .ckpt file"
        )
    device = _device(settings.device)
    if is_textdiffuser(folder):
        open_folder = open_archive
    elif find_stages(folder):
        open_folder = open_stages
    else:
        open_folder = open_pipeline if is_vlad(folder) else open_other
    if settings.controlnet is not None:
        if open_folder is not open_other:
            raise ValueError(f"--controlnet is {settings.controlnet}, and {model} is no Stable Diffusion; leave it out")
        open_folder = open_steered
    return open_folder(model, folder, settings, device)


def open_module(module: SystemModule, model: str, settings: SystemSettings) -> OpenSystem:
    """Open a module of this project that has its trained weights.

    Args:
        module: VLAD's stage 2 or a baseline.
        model: its name, such as the checkpoint's path.
        settings: how it samples, and where.

    Raises:
        ValueError: naming a setting that does not suit it.
    """
    return open_trained(module, model, settings, _device(settings.device))


def _device(name: str | None) -> str:
    """Return the device; the GPU is the one of this task's number on its machine."""
    if name is None:
        name = f"cuda:{local_rank() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise ValueError(f"--device {name} cannot be used here: {' '.join(str(error).split())[:200]}") from error
    return name
