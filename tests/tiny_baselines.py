"""The baselines at the size of tiny_system.py."""

from __future__ import annotations

from typing import Any

import tiny_system as tiny
import torch

from vlad_lightning.baselines import Baseline, BaselineModule
from vlad_lightning.baselines.controlnet import ControlNet
from vlad_lightning.baselines.stable_diffusion import StableDiffusion
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.models.autoencoder import SpaceToDepth

SAMPLER = ImageSampler(steps=2, guidance_scale=2.0)


def stable_diffusion(seed: int = 0, **changes: Any) -> StableDiffusion:
    torch.manual_seed(seed)
    encoder = tiny.prompt_encoder().text_encoder
    parts = {"text_encoder": encoder, "unet": tiny.unet(tiny.LATENT), "autoencoder": SpaceToDepth(2)}
    return StableDiffusion(**parts | {"schedule": tiny.schedule(), "image_size": tiny.SIZE} | changes)


def module(baseline: Baseline | None = None, **changes: Any) -> BaselineModule:
    return BaselineModule(baseline or stable_diffusion(), tiny.FAST, **{"sampler": SAMPLER} | changes)


def controlnet(seed: int = 0, **changes: Any) -> ControlNet:
    torch.manual_seed(seed)
    encoder = tiny.prompt_encoder().text_encoder
    parts = {"text_encoder": encoder, "unet": tiny.unet(tiny.LATENT), "autoencoder": SpaceToDepth(2)}
    return ControlNet(**parts | {"schedule": tiny.schedule(), "image_size": tiny.SIZE} | changes)
