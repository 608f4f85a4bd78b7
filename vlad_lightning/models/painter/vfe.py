"""The Visual Feature Enhancer: Eq. 7's fusion before a denoising network that attends to the tokens of t (Eq. 5, 9)."""

from __future__ import annotations

import copy

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.lora import Lora, fold
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.backbone import Backbone, TransformerBackbone, UNetBackbone
from vlad_lightning.models.painter.fusion import InpaintingFusion, LatentFusion
from vlad_lightning.models.painter.layout_skip import LayoutSkip
from vlad_lightning.models.painter.phrase_map import PhraseMap
from vlad_lightning.models.painter.widened import widen
from vlad_lightning.types import Conditioning

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of an image generator that usually get adapters: all of its attention."""


class VFE(nn.Module):
    """Fusion, then either a UNet or a transformer, under the names that diffusers' pipelines give them.

    Args:
        fusion: joins x_t, z_t and the pooled t.
        unet: the denoising network; its ``in_channels`` are the fusion's ``out_channels``. If they are x_t's, as in a
            published UNet, and the fusion gives more, it is widened by columns of zeros, which train under LoRA too.
        transformer: the denoising network instead of the UNet; likewise.
        lora: adapters in the denoising network, which is then frozen; None trains the network itself.
        acceleration: memory and speed settings of the denoising network.
        inpainting: adds the mask and the known part of a picture, for inpainting; None generates whole pictures only.
        phrase_map: draws the objects' phrases into their boxes, beside the glyphs of z_t; None has word boxes only.
        layout_skip: a skip connection from z_t around the denoising network; None is without.

    Raises:
        ValueError: if both or neither of ``unet`` and ``transformer`` are given, the channels of fusion and network do
            not fit, or the network needs conditions that are not supported here, or does not support a setting.
    """

    def __init__(
        self,
        fusion: LatentFusion,
        unet: UNet2DConditionModel | None = None,
        transformer: SD3Transformer2DModel | None = None,
        lora: Lora | None = None,
        acceleration: Acceleration = Acceleration(),
        inpainting: InpaintingFusion | None = None,
        phrase_map: PhraseMap | None = None,
        layout_skip: LayoutSkip | None = None,
    ) -> None:
        super().__init__()
        if (unet is None) == (transformer is None):
            given = "neither" if unet is None else "both"
            raise ValueError(f"{given} of unet and transformer given; exactly one must be")
        self.fusion = fusion
        self.unet = unet
        self.transformer = transformer
        self._backbone: Backbone = UNetBackbone(unet) if unet is not None else TransformerBackbone(transformer)
        self.lora = lora
        wider = len(fusion.weight) > self.backbone.in_channels == fusion.config.latent_channels
        if len(fusion.weight) != self.backbone.in_channels and not wider:
            raise ValueError(
                f"fusion gives {len(fusion.weight)} channels; the {self.network_name} takes {self.backbone.in_channels}"
            )
        if inpainting is not None and len(inpainting.weight) != len(fusion.weight):
            raise ValueError(f"fusion gives {len(fusion.weight)} channels; region gives {len(inpainting.weight)}")
        self.inpainting = inpainting
        self.phrase_map = phrase_map
        if layout_skip is not None:
            _check_skip(layout_skip, fusion)
        self.layout_skip = layout_skip
        if lora is not None:
            lora.inject(self.network, LORA_TARGETS)
        if wider:
            widen(self.network, len(fusion.weight))
            fusion.open_further()
        if transformer is not None:  # nothing reads the result of the last block's text queries
            transformer.transformer_blocks[-1].attn.add_q_proj.requires_grad_(False)
        acceleration.apply(self.network)

    @property
    def network_name(self) -> str:
        """The name of the attribute that holds the image_generator."""
        return "unet" if self.transformer is None else "transformer"

    @property
    def network(self) -> UNet2DConditionModel | SD3Transformer2DModel:
        """The UNet or the transformer."""
        return self.transformer if self.unet is None else self.unet

    @property
    def backbone(self) -> Backbone:
        """The UNet or the transformer, behind one interface."""
        return self._backbone

    def plain_network(self) -> UNet2DConditionModel | SD3Transformer2DModel:
        """Copy :attr:`network` as a plain one of its class: adapters and further columns folded in, and contiguous."""
        state = self.network.state_dict()
        folded = fold(state, 1.0 if self.lora is None else self.lora.scale)
        if folded.keys() == state.keys():
            plain = copy.deepcopy(self.network)
        else:
            plain = type(self.network).from_config(self.network.config).to(self.network.dtype)
            plain.load_state_dict(folded, strict=True)
        return plain.to(memory_format=torch.contiguous_format)

    def forward(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        layout: Tensor | None,
        conditioning: Conditioning,
        masked_latents: Tensor | None = None,
    ) -> Tensor:
        """Predict epsilon, v, x0 or a velocity, according to the schedule.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,) int64.
            layout: (B, C, h, w) float, z_t; None without hierarchical guidance.
            conditioning: the conditioning of the B prompts.
            masked_latents: (B, 1 + C_z, h, w) float, see
                :class:`~vlad_lightning.models.painter.fusion.InpaintingFusion`; required with ``inpainting``, and
                None without it.

        Returns:
            (B, C_z, h, w) float.

        Raises:
            ValueError: if ``masked_latents`` is given without ``inpainting``, or the other way round.
        """
        if (masked_latents is None) != (self.inpainting is None):
            raise ValueError(
                f"masked_latents is {'None' if masked_latents is None else 'given'}; the network's "
                f"inpainting is {self.inpainting}"
            )
        fused = self.fusion(x_t, timesteps, layout, conditioning.pooled)
        if self.inpainting is not None:
            fused = fused + self.inpainting(masked_latents, timesteps)
        predicted = self.backbone(fused, timesteps, conditioning)
        if self.layout_skip is None or layout is None:
            return predicted
        return predicted + self.layout_skip(predicted, x_t, layout)


def _check_skip(skip: LayoutSkip, fusion: LatentFusion) -> None:
    """Refuse a skip connection whose channels are not the fusion's."""
    for name in ("latent_channels", "layout_channels"):
        own, fused = skip.config[name], fusion.config[name]
        if own != fused or not own:
            raise ValueError(f"layout_skip.{name} is {own}; fusion.{name} is {fused}, and they must be equal and not 0")
