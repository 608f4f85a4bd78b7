"""A system that is open, and what the openers of several systems share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.evaluation.systems.system_settings import SystemSettings
from vlad_lightning.types import TextToImage


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


def cpu_generators(seeds: Sequence[int], prompts: Sequence[str]) -> list[torch.Generator]:
    """Return those that a caller of the pipeline would make of the seeds, on the CPU."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def own_generators(seeds: Sequence[int], prompts: Sequence[str]) -> list[torch.Generator]:
    """Return those of ``vlad-cli generate PROMPT --seed SEED``."""
    pairs = zip(seeds, prompts, strict=True)
    return [generator for seed, prompt in pairs for generator in sampling_generators(seed, [(prompt, 0)])]


def refuse_layout_scale(model: str, settings: SystemSettings) -> None:
    """Refuse a scale for layouts, for systems that have none.

    Raises:
        ValueError: naming the setting and the model.
    """
    if settings.layout_scale is not None:
        raise ValueError(f"--layout_scale is {settings.layout_scale}, which {model} does not have; leave it out")
