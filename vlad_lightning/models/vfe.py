"""The Visual Feature Enhancer: Eq. 7's fusion before a denoising network that attends to the tokens of t (Eq. 5, 9)."""

from __future__ import annotations

from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.backbone import Backbone, TransformerBackbone, UNetBackbone
from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.types import Conditioning


class VFE(nn.Module):
    """Fusion, then a UNet or a transformer: one of the two, under the names that pipelines of diffusers give them.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the painter; its ``in_channels`` are the fusion's ``out_channels``.
        transformer: the painter in the UNet's place; likewise.

    Raises:
        ValueError: where both are given or none, or the channels of the two do not fit.
    """

    def __init__(
        self,
        fusion: LatentFusion,
        unet: UNet2DConditionModel | None = None,
        transformer: SD3Transformer2DModel | None = None,
    ) -> None:
        super().__init__()
        if (unet is None) == (transformer is None):
            given = "neither" if unet is None else "both"
            raise ValueError(f"{given} of unet and transformer given; exactly one must be")
        self.fusion = fusion
        self.unet = unet
        self.transformer = transformer
        if len(fusion.weight) != self.backbone.in_channels:
            name = "unet" if transformer is None else "transformer"
            raise ValueError(
                f"fusion gives {len(fusion.weight)} channels; the {name} takes {self.backbone.in_channels}"
            )

    @property
    def backbone(self) -> Backbone:
        """The UNet or the transformer, behind one call."""
        return UNetBackbone(self.unet) if self.unet is not None else TransformerBackbone(self.transformer)

    def forward(self, x_t: Tensor, timesteps: Tensor, layout: Tensor | None, conditioning: Conditioning) -> Tensor:
        """Predict epsilon, v, x0 or a velocity, as the schedule has it.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,) int64, or float32 for flow matching.
            layout: (B, C, h, w) float, z_t; None without hierarchical guidance.
            conditioning: of the B prompts.

        Returns:
            (B, C_z, h, w) float.
        """
        fused = self.fusion(x_t, timesteps, layout, conditioning.pooled)
        return self.backbone(fused, timesteps, conditioning)
