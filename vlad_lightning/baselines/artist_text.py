"""ARTIST's text module: a diffusion of pictures that hold nothing but white words on black."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from vlad_lightning.baselines.artist_unet import UNetRun, check_plain, run_unet
from vlad_lightning.baselines.denoising import DenoisingSettings, noised_data, weighted_error
from vlad_lightning.baselines.stable_diffusion import StableDiffusion
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.layout.fonts import FAMILIES
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.limits import check_share
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.types import Batch, Conditioning

_FAMILIES = tuple(FAMILIES)


class TextModule(StableDiffusion):
    """A latent diffusion of white words on black, conditioned on the caption and on the layout's words as drawn.

    The UNet reads the noisy latent and, beside it, the latent of the drawn layout. What is to be learned are the shapes
    of letters: part of the targets are in another font than the layout is drawn in.

    Args:
        text_encoder: see :class:`~vlad_lightning.baselines.stable_diffusion.StableDiffusion`.
        unet: takes twice the autoencoder's channels and gives them once.
        autoencoder: frozen; encodes the pictures.
        schedule: the forward process.
        image_size: H = W in pixels.
        training: settings of the loss.
        freeze_text_tower: False trains the text tower.
        layout_generator: frozen; places the words where no layout is given. None leaves such pictures without words.
        rasterizer: draws the layouts.
        font_share: share of the samples whose target is in a random one of the font families.

    Raises:
        ValueError: if channels or widths do not fit, a share is out of its range, or the UNet has further conditions.
    """

    uses_layouts = True

    def __init__(
        self,
        text_encoder: TextEncoder,
        unet: UNet2DConditionModel,
        autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder,
        schedule: Schedule,
        image_size: int = 64,
        training: DenoisingSettings = DenoisingSettings(),
        freeze_text_tower: bool = True,
        layout_generator: LayoutGenerator | None = None,
        rasterizer: Rasterizer = Rasterizer(),
        font_share: float = 0.5,
    ) -> None:
        self.added_channels = autoencoder.latent_channels  # read by the checks of the parent
        super().__init__(
            text_encoder,
            unet,
            autoencoder,
            schedule,
            image_size,
            training,
            freeze_text_tower,
            layout_generator,
            rasterizer,
        )
        check_plain(unet, "unet")
        check_share("font_share", font_share)
        self.font_share = font_share

    def hint(self, glyphs: Tensor) -> Tensor:
        """Return the latents (B, C_z, h, w) of B drawn layouts (B, 3, H, W)."""
        return self.autoencoder.encode_images(glyphs)

    def batch_hint(self, batch: Batch) -> Tensor:
        """Return the latents of a batch's true layouts, drawn."""
        return self.hint(glyph_images(batch.glyphs))

    def run(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor) -> UNetRun:
        """Denoise latents of pictures of words, with the features on the way.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,).
            cond: of B captions.
            hint: (B, C_z, h, w) float, see :meth:`hint`.
        """
        return run_unet(self.unet, torch.cat([x_t, hint], dim=1), timesteps, cond.tokens, cond.read_mask)

    def predict(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor | None) -> Tensor:
        """See :class:`~vlad_lightning.baselines.stable_diffusion.StableDiffusion`."""
        return self.run(x_t, timesteps, cond, torch.full_like(x_t, -1) if hint is None else hint).output

    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Compute the weighted error of the pictures of words, see :class:`~vlad_lightning.baselines.Baseline`."""
        words = self.autoencoder.encode_images(self.target_pictures(batch, generators))
        steps, noised = noised_data(self.schedule, self.settings, words, generators)
        cond = self.encode_prompts(batch, generators)
        predicted = self.predict(noised.x_t, steps, cond, self.batch_hint(batch))
        return {"loss": weighted_error(predicted, noised, batch, self.settings)}

    def target_pictures(self, batch: Batch, generators: SampleGenerators) -> Tensor:
        """Draw the layouts' words, some in a random font: (B, 3, H, W) in [-1, 1], in the images' dtype."""
        pictures = glyph_images(batch.glyphs).to(batch.images.dtype)
        lots = generators.uniform(2).tolist() if self.font_share > 0 else []
        for row, (lot, font) in enumerate(lots):
            layout = batch.layouts[row]
            if lot < self.font_share and layout.words:
                family = _FAMILIES[int(font * len(_FAMILIES))]
                other = replace(layout, fonts=(family,) * len(layout))
                pictures[row] = self.draw_glyphs([other])[0].to(pictures)
        return pictures
