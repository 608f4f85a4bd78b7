"""Count what a step of stage 2 computes and sends, from the shipped configurations on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from step_time import Workload
from torch.utils.flop_counter import FlopCounterMode

from vlad_lightning.cli import fit as cli
from vlad_lightning.files import configs_folder
from vlad_lightning.modules import VFEModule

NETWORKS = {
    "SD 1.5, 512 px": ("stage2_vfe.yaml", 16),
    "SD 2.1, 768 px": ("sd21/stage2_vfe.yaml", 8),
    "SDXL, 1024 px": ("sdxl/stage2_vfe.yaml", 4),
}
"""Configuration, and images per GPU in the plan: as many as 80 GB hold (docs/scale.md); SDXL needs 141 GB or shards."""
LORA = "{rank: 16, alpha: 16, targets: [to_q, to_k, to_v, to_out.0]}"
_MLPERF_LATENT = 64  # h = w: 512 px


@dataclass(frozen=True)
class Counted(Workload):
    """A workload with its counts.

    Attributes:
        tflop: TFLOP of a training step for one image, including the frozen networks.
        whole: bytes of all weights in float32.
        images: images per GPU in the plan.
    """

    tflop: float = 0.0
    whole: float = 0.0
    images: int = 0

    def state(self, shards: int) -> float:
        """Return the bytes of weights, gradients, AdamW's two moments and EMA on a GPU; frozen weights stay whole."""
        trained = self.gradients
        return self.whole - trained + 5 * trained / shards


def counted(fixed_ms: float, image_ms: float) -> list[Counted]:
    """Count full fine-tuning and LoRA of each network.

    c is used unchanged, and k grows with the floating-point operations of an image: the GPU is assumed to compute
    VLAD's networks as fast as MLPerf's.

    Args:
        fixed_ms: c, fitted to MLPerf's runs.
        image_ms: k, fitted likewise, for Stable Diffusion 2's UNet on latents of 64 x 64.
    """
    rate = 3 * _reference_tflop() / image_ms  # TFLOP per ms
    found = []
    for name, (config, images) in NETWORKS.items():
        for title, more, passes in ((name, [], 3), (f"{name}, LoRA", ["--model.image_generator.vfe.lora", LORA], 2)):
            module = build_module(config, *more)
            generated, frozen = forward_tflop(module)
            # without gradients of the frozen weights, the backward pass is as long as the forward pass
            tflop = passes * generated + frozen
            gradients = 4.0 * sum(p.numel() for p in module.parameters() if p.requires_grad)
            found.append(
                Counted(
                    name=title,
                    fixed_ms=fixed_ms,
                    image_ms=tflop / rate,
                    gradients=gradients,
                    weights=gradients / 2,  # FSDP2 gathers in bf16 under bf16-mixed
                    backward=(passes - 1) * generated / tflop,
                    tflop=tflop,
                    whole=4.0 * sum(p.numel() for p in module.parameters()),
                    images=images,
                )
            )
    return found


def build_module(config: str, *more: str) -> VFEModule:
    """Build stage 2 of a shipped configuration on the meta device."""
    with torch.device("meta"):
        module = cli.build(["--config", str(configs_folder() / config), *more], run=False).model
    assert isinstance(module, VFEModule)
    return module


def forward_tflop(module: VFEModule) -> tuple[float, float]:
    """Return TFLOP per image: the forward pass of the image generator, and the frozen networks (autoencoder twice)."""
    from parameters import vfe_inputs

    image_generator = module.image_generator
    image = torch.zeros(1, 3, image_generator.image_size, image_generator.image_size, device="meta")
    with torch.device("meta"), torch.no_grad():
        inputs = vfe_inputs(module)
        with FlopCounterMode(display=False) as generated:
            image_generator.vfe(*inputs)
        with FlopCounterMode(display=False) as around:
            image_generator.autoencoder.encode_images(image)
            image_generator.autoencoder.encode_images(image)
            if module.image_encoder is not None:
                module.image_encoder(image)
    return generated.get_total_flops() / 1e12, around.get_total_flops() / 1e12


def _reference_tflop() -> float:
    """Return the TFLOP of a forward pass of Stable Diffusion 2's UNet at MLPerf's size."""
    unet: Any = build_module("sd21/stage2_vfe.yaml").image_generator.vfe.network
    width = unet.config.cross_attention_dim
    latents = torch.zeros(1, unet.config.in_channels, _MLPERF_LATENT, _MLPERF_LATENT, device="meta")
    steps, states = torch.zeros(1, dtype=torch.int64, device="meta"), torch.zeros(1, 77, width, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(latents, steps, encoder_hidden_states=states)
    return counter.get_total_flops() / 1e12
