"""TextDiffuser (arXiv 2305.10855) as a baseline: a UNet that also gets a segmentation of the characters to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from vlad_lightning.baselines.denoising import DenoisingSettings, noised_data, weighted_error
from vlad_lightning.baselines.stable_diffusion import StableDiffusion
from vlad_lightning.baselines.textdiffuser_augmentation import SegmentationAugmentation
from vlad_lightning.baselines.textdiffuser_characters import character_maps
from vlad_lightning.baselines.textdiffuser_features import SegmentationFeatures
from vlad_lightning.baselines.textdiffuser_layout_generator import WordLayoutGenerator
from vlad_lightning.baselines.textdiffuser_segmenter import CharacterSegmenter
from vlad_lightning.data.charseg_data import CLASSES, CharsegBatch
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import Schedule, objective_for
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.system import SystemSampling, given_layouts
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.painter.widened import widen
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.types import Batch, Conditioning, GeneratedImages, Layout

EACH_WORD = Masking(share=0.5, word_share=1.0, margin=0.0)
"""Half of the samples are generated whole; in the others each word has a region with probability 1/2."""


class TextDiffuser(StableDiffusion):
    """A latent diffusion model conditioned on the text and on the character that each pixel of the layout shows.

    The UNet gets the noised latent, the mask of the region to generate, the latent of the picture without that region,
    and features of the segmentation. The columns of its first layer that read the last three start at zero, so that
    training starts at the UNet without them. The loss is VLAD's L_diff plus ``character_weight`` times the
    cross-entropy of a frozen segmenter on the predicted latent. Guidance drops the text only.

    Args:
        text_encoder: see :class:`~vlad_lightning.baselines.stable_diffusion.StableDiffusion`.
        unet: the denoising network of the latent alone; it is widened in place.
        autoencoder: likewise.
        schedule: likewise.
        segmenter: trained on the same autoencoder; frozen. None for a system that is not trained.
        features: of the segmentation, down to the size of the latent.
        word_layouts: places the words where no layout is given, frozen; None leaves them out.
        image_size: H = W in pixels.
        segmentation_size: the same of the segmentations; None means ``image_size``.
        training: settings of the loss, without the character loss.
        character_weight: weight of the cross-entropy.
        masking: regions that are trained on beside whole images.
        augmentation: changes of the segmentations in training.
        freeze_text_tower: likewise.
        rasterizer: likewise.

    Raises:
        ValueError: where channels or widths differ, the features have another size than the latents, a weight is
            negative, or the schedule cannot be trained on.
    """

    uses_layouts = True

    def __init__(
        self,
        text_encoder: TextEncoder,
        unet: UNet2DConditionModel,
        autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder,
        schedule: Schedule,
        segmenter: CharacterSegmenter | None = None,
        features: SegmentationFeatures | None = None,
        word_layouts: WordLayoutGenerator | None = None,
        image_size: int = 64,
        segmentation_size: int | None = None,
        training: DenoisingSettings = DenoisingSettings(),
        character_weight: float = 0.01,
        masking: Masking = EACH_WORD,
        augmentation: SegmentationAugmentation = SegmentationAugmentation(),
        freeze_text_tower: bool = True,
        rasterizer: Rasterizer = Rasterizer(),
    ) -> None:
        super().__init__(
            text_encoder, unet, autoencoder, schedule, image_size, training, freeze_text_tower, None, rasterizer
        )
        if not 0 <= character_weight < float("inf"):
            raise ValueError(f"character_weight is {character_weight}; it must be at least 0")
        self.features = features or SegmentationFeatures(CLASSES)
        self.segmenter = segmenter.requires_grad_(False) if segmenter else None
        self.word_layouts = word_layouts.requires_grad_(False) if word_layouts else None
        self.segmentation_size = image_size if segmentation_size is None else segmentation_size
        self.character_weight = character_weight
        self.masking = masking
        self.augmentation = augmentation
        latent = autoencoder.latent_channels
        widen(unet, latent + 1 + latent + self.features.channels)
        self._check_features()

    def _check_features(self) -> None:
        """Refuse features of another size than the latents."""
        side = self.blank_latents(1).shape[-1]
        if self.segmentation_size != side * 2**self.features.halvings:
            raise ValueError(
                f"segmentation_size is {self.segmentation_size} and features.widths halves {self.features.halvings} "
                f"times; that must give the latents' side, {side}"
            )

    def blank_latents(self, size: int) -> Tensor:
        """Encode ``size`` pictures of zeros, (size, C_z, h, w), in the UNet's format."""
        frame = (self.image_size, self.image_size)
        return self.autoencoder.encode_images(torch.zeros(size, 3, *frame, device=self.device, dtype=self.unet.dtype))

    def planes(self, characters: Tensor, masks: Tensor, masked_latents: Tensor) -> Tensor:
        """Return what the UNet gets beside the noised latent.

        Args:
            characters: (B, S, S) int64, the segmentation of the region, S = ``segmentation_size``.
            masks: (B, 1, H, W) bool, True in the region that is generated.
            masked_latents: (B, C_z, h, w) float, of the picture with zeros in the region.

        Returns:
            (B, 1 + C_z + channels, h, w) float.
        """
        # a latent position belongs to the region if one of its pixels does
        region = F.adaptive_max_pool2d(masks.to(masked_latents), masked_latents.shape[-2:])
        return torch.cat([region, masked_latents, self.features(characters).to(masked_latents)], dim=1)

    def predict(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor | None) -> Tensor:
        """Predict as :meth:`StableDiffusion.predict` does; ``hint`` is what :meth:`planes` returned, for B rows."""
        planes = cast(Tensor, hint).to(x_t)
        return self._backbone(torch.cat([x_t, planes], dim=1), timesteps, cond)

    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Compute the loss and its parts: ``loss_diffusion`` and ``loss_character``.

        Raises:
            ValueError: without a segmenter, or for data without maps of characters.
        """
        if self.segmenter is None or not isinstance(batch, CharsegBatch):
            missing = "segmenter" if self.segmenter is None else "charseg of the batch"
            raise ValueError(f"{missing} is missing; TextDiffuser is trained with a character segmenter and its truth")
        x0 = self.autoencoder.encode_images(batch.images).float()  # bfloat16 under autocast
        steps, noised = noised_data(self.schedule, self.settings, x0, generators)
        cond = self.encode_prompts(batch, generators)
        masks = self.masking.draw(batch.layouts, (self.image_size, self.image_size), generators)
        region = F.interpolate(masks.float(), self.segmentation_size)[:, 0].long()
        characters = self.augmentation(self.segment(batch.layouts, batch.glyphs), generators) * region
        known = self.autoencoder.encode_images(batch.images.masked_fill(masks, 0))
        predicted = self.predict(noised.x_t, steps, cond, self.planes(characters, masks, known)).float()
        diffusion = weighted_error(predicted, noised, batch, self.settings)
        x0_of = objective_for(self.schedule).x0_of(predicted, noised.x_t, steps)
        character = self.segmenter.loss(x0_of, batch.charseg)
        loss = diffusion + self.character_weight * character
        return {"loss": loss, "loss_diffusion": diffusion, "loss_character": character}

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt whose words the system cannot place or draw.

        Raises:
            ValueError: naming the prompt or the characters.
        """
        check_prompts([prompt])
        if self.word_layouts is not None:
            self.word_layouts.check([prompt])
        self.rasterizer.check(drawn_words(prompt))

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: SystemSampling,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate ``B`` images, see :class:`~vlad_lightning.baselines.baseline.Baseline`.

        Missing layouts are those of the layout transformer, which draws no random numbers.
        """
        given = given_layouts(prompts, layouts, generators)
        rows = [row for row, layout in enumerate(given) if layout is None]
        if rows and self.word_layouts is not None:
            for row, made in zip(rows, self.word_layouts.sample([prompts[row] for row in rows]), strict=True):
                given[row] = made
        return super().generate(prompts, given, settings, generators)

    def layout_hint(self, layouts: Sequence[Layout]) -> Tensor:
        """Return what the UNet gets of B layouts: the whole frame is to be generated."""
        frame = (self.image_size, self.image_size)
        glyphs = torch.stack([self.rasterizer(layout, frame) for layout in layouts]).to(self.device)
        masks = torch.ones(len(layouts), 1, *frame, dtype=torch.bool, device=self.device)
        return self.planes(self.segment(layouts, glyphs), masks, self.blank_latents(len(layouts)))

    def segment(self, layouts: Sequence[Layout], glyphs: Tensor) -> Tensor:
        """Return the segmentations of B layouts, (B, S, S) int64, from their glyph maps (B, 1, H, W) uint8."""
        size = (self.segmentation_size, self.segmentation_size)
        return character_maps(layouts, F.interpolate(glyphs, size, mode="nearest-exact"), self.rasterizer.font)
