"""The Visual Feature Enhancer: Eq. 7's fusion before a denoising UNet that attends to the tokens of t (Eq. 5, 9)."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.acceleration import Acceleration
from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.models.lora import Lora, fold
from vlad_lightning.types import Conditioning


class VFE(nn.Module):
    """Fusion, then a UNet.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the painter; its ``in_channels`` are the fusion's ``out_channels``.
        lora: adapters in the UNet, which is frozen then; None trains the UNet itself.
        acceleration: memory and speed of the UNet.

    Raises:
        ValueError: where the channels of the two do not fit, or the UNet does not support what is asked of it.
    """

    def __init__(
        self,
        fusion: LatentFusion,
        unet: UNet2DConditionModel,
        lora: Lora | None = None,
        acceleration: Acceleration = Acceleration(),
    ) -> None:
        super().__init__()
        if len(fusion.weight) != unet.config.in_channels:
            raise ValueError(f"fusion gives {len(fusion.weight)} channels; the unet takes {unet.config.in_channels}")
        self.fusion = fusion
        self.unet = unet
        self.lora = lora
        if lora is not None:
            lora.inject(unet)
        acceleration.apply(unet)

    def plain_unet(self) -> UNet2DConditionModel:
        """A copy of the UNet as its class is saved: adapters folded in, weights in their usual order."""
        if self.lora is None:
            plain = copy.deepcopy(self.unet)
        else:
            plain = type(self.unet).from_config(self.unet.config).to(self.unet.dtype)
            plain.load_state_dict(fold(self.unet.state_dict(), self.lora.scale), strict=True)
        return plain.to(memory_format=torch.contiguous_format)

    def forward(self, x_t: Tensor, timesteps: Tensor, layout: Tensor | None, conditioning: Conditioning) -> Tensor:
        """Predict epsilon, v or x0, as the schedule has it.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,) int64.
            layout: (B, C, h, w) float, z_t; None without hierarchical guidance.
            conditioning: of the B prompts.

        Returns:
            (B, C_z, h, w) float.
        """
        fused = self.fusion(x_t, timesteps, layout, conditioning.pooled)
        return self.unet(fused, timesteps, encoder_hidden_states=conditioning.tokens).sample
