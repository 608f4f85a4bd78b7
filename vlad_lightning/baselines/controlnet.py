"""ControlNet (arXiv 2302.05543) with Canny edges as a baseline: the edges of the printed words steer a frozen model."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from vlad_lightning.baselines.denoising import DenoisingSettings
from vlad_lightning.baselines.stable_diffusion import StableDiffusion
from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.types import Batch, Conditioning

CANNY = (100, 200)
"""The two thresholds of Canny's detector, as in the published comparison."""


class ControlNet(StableDiffusion):
    """Stable Diffusion, frozen, with a trained copy of its encoder that reads the edges of the layout's words.

    The copy's outputs pass convolutions that start at zero, and are added to the skip connections of the frozen UNet:
    an untrained ControlNet is the frozen model bit for bit. The copy sees the same text as the UNet; half of the
    captions are emptied in training, so that the edges are used.

    Args:
        text_encoder: the text encoder of the frozen model.
        unet: the denoising network of the frozen model.
        autoencoder: frozen; encodes images to latents, and decodes latents.
        schedule: the forward process of the latents.
        image_size: H = W in pixels.
        hint_channels: channels of the network that brings the edges to the size of the latent; each after the first
            halves the sides, so their number follows from the autoencoder.
        training: settings of the loss.
        layout_generator: places the words where no layout is given: VLAD's stage 1.
        rasterizer: draws layouts as glyph maps.

    Raises:
        ValueError: as :class:`~vlad_lightning.baselines.stable_diffusion.StableDiffusion`, and if the edges do not come
            out at the size of the latent.
    """

    uses_layouts: ClassVar[bool] = True

    def __init__(
        self,
        text_encoder: TextEncoder,
        unet: UNet2DConditionModel,
        autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder,
        schedule: Schedule,
        image_size: int = 64,
        hint_channels: tuple[int, ...] = (16, 32),
        training: DenoisingSettings = DenoisingSettings(caption_dropout=0.5),
        layout_generator: LayoutGenerator | None = None,
        rasterizer: Rasterizer = Rasterizer(),
    ) -> None:
        super().__init__(
            text_encoder, unet, autoencoder, schedule, image_size, training, True, layout_generator, rasterizer
        )
        self.prompt_encoder.requires_grad_(False)
        self.unet.requires_grad_(False)
        self.controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hint_channels)
        side = autoencoder.encode_images(torch.zeros(1, 3, image_size, image_size)).shape[-1]
        halved = image_size / 2 ** (len(hint_channels) - 1)
        if halved != side:
            raise ValueError(
                f"hint_channels is {hint_channels}, which brings edges of {image_size} px to {halved:g}; the latent "
                f"has {side}: each channel after the first halves the sides"
            )

    @property
    def encoder(self) -> None:
        """None: the prompt encoder is frozen."""
        return None

    def copy_encoder(self) -> None:
        """Copy the weights of the frozen UNet's encoder and middle into the copy, which then starts as the UNet."""
        for name in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
            getattr(self.controlnet, name).load_state_dict(getattr(self.unet, name).state_dict())

    def hint(self, glyphs: Tensor) -> Tensor:
        """Return the Canny edges of B drawn layouts, see :func:`canny_edges`."""
        return canny_edges(glyphs)

    def batch_hint(self, batch: Batch) -> Tensor:
        """Return the edges of the batch's true layouts."""
        return self.hint(glyph_images(batch.glyphs))

    def predict(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor | None) -> Tensor:
        """See :class:`~vlad_lightning.baselines.stable_diffusion.StableDiffusion`."""
        assert hint is not None
        down, middle = control_features(self.controlnet, x_t, timesteps, cond, hint)
        return self.unet(
            x_t,
            timesteps,
            encoder_hidden_states=cond.tokens,
            encoder_attention_mask=cond.read_mask,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample


def canny_edges(glyphs: Tensor) -> Tensor:
    """Find the edges of B drawn layouts (B, 3, H, W) float in [-1, 1]: (B, 3, H, W) float32, 0 or 1, channels equal."""
    levels = ((glyphs[:, 0] + 1) * 127.5).round().byte().cpu().numpy()
    edges = np.stack([cv2.Canny(picture, *CANNY) for picture in levels])
    return torch.from_numpy(edges).to(glyphs.device)[:, None].gt(0).float().repeat(1, 3, 1, 1)


def control_features(
    controlnet: ControlNetModel, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Compute what a ControlNet adds to a UNet: the forward pass of diffusers, with a mask over the token states.

    Args:
        controlnet: the copy of the encoder.
        x_t: (B, C_z, h, w) float.
        timesteps: (B,).
        cond: the conditioning; the states outside ``read_mask`` are hidden, as they are from the UNet.
        hint: (B, 3, H, W) float.

    Returns:
        The additions to the skip connections, and (B, C, h', w') to the middle.
    """
    emb = controlnet.time_embedding(controlnet.time_proj(timesteps.expand(len(x_t))).to(x_t.dtype))
    x = controlnet.conv_in(x_t) + controlnet.controlnet_cond_embedding(hint.to(x_t.dtype))
    bias = None if cond.read_mask is None else (1 - cond.read_mask.to(x.dtype))[:, None] * -10_000.0
    text = {"encoder_hidden_states": cond.tokens, "encoder_attention_mask": bias}
    skips = [x]
    for block in controlnet.down_blocks:
        x, found = block(hidden_states=x, temb=emb, **(text if _attends(block) else {}))
        skips.extend(found)
    x = controlnet.mid_block(x, emb, **(text if _attends(controlnet.mid_block) else {}))
    down = tuple(zero(skip) for skip, zero in zip(skips, controlnet.controlnet_down_blocks, strict=True))
    return down, controlnet.controlnet_mid_block(x)


def _attends(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


class CopyEncoder(Callback):
    """Starts a ControlNet's copy of the encoder from the frozen UNet; list it after the UNet's ``InitFrom``.

    It does nothing if the run resumes from a checkpoint.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the weights when a fit starts.

        Raises:
            TypeError: if the module trains no :class:`ControlNet`.
        """
        baseline: Any = getattr(pl_module, "baseline", None)
        if not isinstance(baseline, ControlNet):
            raise TypeError(f"CopyEncoder is for a ControlNet; model.baseline is a {type(baseline).__name__}")
        if stage == "fit" and not trainer.ckpt_path:
            baseline.copy_encoder()
