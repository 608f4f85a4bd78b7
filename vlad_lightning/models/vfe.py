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

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of a painter that usually get adapters: all of its attention."""

_PIXELS = 8  # of a latent's side, in every autoencoder that SDXL's UNet was trained with


class VFE(nn.Module):
    """Fusion, then a UNet.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the painter; its ``in_channels`` are the fusion's ``out_channels``. SDXL's adds a text embedding and sizes
            to its time embedding, which the conditioning and x_t give it.
        lora: adapters in the UNet, which is frozen then; None trains the UNet itself.
        acceleration: memory and speed of the UNet.

    Raises:
        ValueError: where the channels of the two do not fit, or the UNet needs conditions that are not known here, or does
            not support what is asked of it.
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
        if unet.config.addition_embed_type not in (None, "text_time"):
            raise ValueError(
                f"the unet's addition_embed_type is {unet.config.addition_embed_type!r}; allowed are None and "
                "'text_time' (SDXL)"
            )
        self.fusion = fusion
        self.unet = unet
        self.lora = lora
        if lora is not None:
            lora.inject(unet, LORA_TARGETS)
        acceleration.apply(unet)

    def plain_unet(self) -> UNet2DConditionModel:
        """A copy of the UNet as its class is saved: adapters folded in, weights in their usual order."""
        if self.lora is None:
            plain = copy.deepcopy(self.unet)
        else:
            plain = type(self.unet).from_config(self.unet.config).to(self.unet.dtype)
            plain.load_state_dict(fold(self.unet.state_dict(), self.lora.scale), strict=True)
        return plain.to(memory_format=torch.contiguous_format)

    @property
    def added_width(self) -> int | None:
        """E of ``Conditioning.text_embeds``; None where the UNet reads none."""
        config = self.unet.config
        if config.addition_embed_type is None:
            return None
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)

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
        return self.unet(
            fused,
            timesteps,
            encoder_hidden_states=conditioning.tokens,
            encoder_attention_mask=conditioning.read_mask,
            added_cond_kwargs=self._added(x_t, conditioning),
        ).sample

    def _added(self, x_t: Tensor, conditioning: Conditioning) -> dict[str, Tensor] | None:
        """SDXL's further conditions: the text embedding, and (height, width) before and after.

        The data module resizes and does not crop, so both sizes are the image's and the crop's corner is (0, 0).
        """
        if self.added_width is None:
            return None
        if conditioning.text_embeds is None:
            raise ValueError("the unet adds a text embedding to its time embedding; the conditioning has none")
        height, width = (side * _PIXELS for side in x_t.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=x_t.device)
        return {"text_embeds": conditioning.text_embeds, "time_ids": sizes.expand(len(x_t), -1)}
