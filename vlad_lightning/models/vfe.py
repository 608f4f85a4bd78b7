"""The Visual Feature Enhancer: Eq. 7's fusion before a denoising UNet that attends to the tokens of t (Eq. 5, 9)."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.models.region import RegionFusion
from vlad_lightning.types import Conditioning


class VFE(nn.Module):
    """Fusion, then a UNet.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the painter; its ``in_channels`` are the fusion's ``out_channels``.
        region: adds the mask and the known part of a picture, for inpainting; None paints from nothing only.

    Raises:
        ValueError: where the channels of the two do not fit.
    """

    def __init__(self, fusion: LatentFusion, unet: UNet2DConditionModel, region: RegionFusion | None = None) -> None:
        super().__init__()
        if len(fusion.weight) != unet.config.in_channels:
            raise ValueError(f"fusion gives {len(fusion.weight)} channels; the unet takes {unet.config.in_channels}")
        if region is not None and len(region.weight) != len(fusion.weight):
            raise ValueError(f"fusion gives {len(fusion.weight)} channels; region gives {len(region.weight)}")
        self.fusion = fusion
        self.unet = unet
        self.region = region

    def forward(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        layout: Tensor | None,
        conditioning: Conditioning,
        known: Tensor | None = None,
    ) -> Tensor:
        """Predict epsilon, v or x0, as the schedule has it.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,) int64.
            layout: (B, C, h, w) float, z_t; None without hierarchical guidance.
            conditioning: of the B prompts.
            known: (B, 1 + C_z, h, w) float, see :class:`~vlad_lightning.models.region.RegionFusion`; needed where there
                is one, and None elsewhere.

        Returns:
            (B, C_z, h, w) float.

        Raises:
            ValueError: where ``known`` is given and there is no ``region``, or the other way round.
        """
        if (known is None) != (self.region is None):
            raise ValueError(f"known is {'None' if known is None else 'given'}; the network's region is {self.region}")
        fused = self.fusion(x_t, timesteps, layout, conditioning.pooled)
        if self.region is not None:
            fused = fused + self.region(known, timesteps)
        return self.unet(fused, timesteps, encoder_hidden_states=conditioning.tokens).sample
