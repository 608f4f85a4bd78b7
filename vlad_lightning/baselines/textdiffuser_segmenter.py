"""The character segmenter: reads in a latent which character each position shows, for TextDiffuser's character loss."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

from vlad_lightning.data.charseg_data import CLASSES
from vlad_lightning.data.mario import UNKNOWN
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth


class CharacterSegmenter(nn.Module):
    """A UNet from latents to the 96 classes of MARIO's ``charseg.npy``.

    It is trained on the latents of posters, and frozen afterwards: TextDiffuser's image generator gets the gradient of
    its cross-entropy on predicted latents.

    Args:
        autoencoder: frozen; that of the image generator.
        unet: from the autoencoder's channels to 96. Its timestep is always 0.

    Raises:
        ValueError: where the channels do not fit.
    """

    def __init__(self, autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder, unet: UNet2DModel) -> None:
        super().__init__()
        for name, needed in (("in_channels", autoencoder.latent_channels), ("out_channels", CLASSES)):
            if unet.config[name] != needed:
                raise ValueError(f"segmenter.unet.{name} is {unet.config[name]}; it must be {needed}")
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.unet = unet

    def forward(self, latents: Tensor) -> Tensor:
        """Classify the positions of latents (B, C_z, h, w): logits (B, 96, h, w) float32."""
        return self.unet(latents, 0).sample.float()

    def loss(self, latents: Tensor, charseg: Tensor) -> Tensor:
        """Compute the mean cross-entropy over the known positions, () float32; 0 if none is known.

        Args:
            latents: (B, C_z, h, w) float.
            charseg: (B, H, W) uint8, the true classes, :data:`~vlad_lightning.data.mario.UNKNOWN` if not known.
        """
        truth = at_latents(charseg, (latents.shape[-2], latents.shape[-1]))
        total = F.cross_entropy(self(latents), truth, ignore_index=UNKNOWN, reduction="sum")
        return total / (truth != UNKNOWN).sum().clamp(min=1)


def at_latents(charseg: Tensor, size: tuple[int, int]) -> Tensor:
    """Reduce maps of characters to the positions of a latent.

    A position shows a character if one of its pixels does, so that thin strokes are kept: the greatest class of its
    pixels counts. It is unknown if one of its pixels is.

    Args:
        charseg: (B, H, W) uint8.
        size: h and w.

    Returns:
        (B, h, w) int64.
    """
    return F.adaptive_max_pool2d(charseg.float(), size).long()
