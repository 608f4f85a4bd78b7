"""The Visual Feature Enhancer: Eq. 7's fusion before a denoising UNet that attends to the tokens of t (Eq. 5, 9)."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.types import Conditioning


class VFE(nn.Module):
    """Fusion, then a UNet.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the painter; its ``in_channels`` are the fusion's ``out_channels``.

    Raises:
        ValueError: where the channels of the two do not fit.
    """

    def __init__(self, fusion: LatentFusion, unet: UNet2DConditionModel) -> None:
        super().__init__()
        if len(fusion.weight) != unet.config.in_channels:
            raise ValueError(f"fusion gives {len(fusion.weight)} channels; the unet takes {unet.config.in_channels}")
        self.fusion = fusion
        self.unet = unet

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
