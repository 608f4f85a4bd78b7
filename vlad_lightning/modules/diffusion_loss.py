"""L_diff, Eq. 9 with z_t: the image generator's inputs, and the weights of its error by time and position; L_map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import objective_for
from vlad_lightning.generation.image_generator import ImageGenerator, drawn_positions, on_its_picture, told_positions
from vlad_lightning.generation.masking import Masking
from vlad_lightning.layout.glyphs import glyph_images, near_letters
from vlad_lightning.layout.masks import covered, fills_frame
from vlad_lightning.models.painter.phrase_map import Grounding
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import Batch, Conditioning, MaskedImages

Teacher = Callable[[Tensor, Tensor, Tensor | None, Conditioning, Tensor, Tensor | None], Tensor]
"""(x_t (B, C_z, h, w), timesteps (B,), z_t or None, conditioning, where letters and objects are (B, h, w) bool, where
the ground's pattern is told (B, h, w) bool or None) -> the prediction (B, C_z, h, w) float."""


@dataclass(frozen=True)
class DiffusionLoss:
    """The diffusion loss of an image generator, and the loss of its phrase map.

    Attributes:
        image_generator: the model that is trained.
        settings: dropout of the conditions, and the loss weights.
        masking: regions that inpainting is trained on; None trains on whole images only.
        teacher: gives the target in the place of the data's; None trains on the data.
    """

    image_generator: ImageGenerator
    settings: LossSettings
    masking: Masking | None = None
    teacher: Teacher | None = None

    def __call__(self, batch: Batch, cond: Conditioning, generators: SampleGenerators) -> tuple[Tensor, Tensor]:
        """Return L_diff and L_map of one batch.

        Args:
            batch: B samples.
            cond: the encoder's output for their prompts.
            generators: random generators of the B rows.

        Returns:
            () float32 each. L_diff is 0, and the denoising network is not evaluated, if its weight is 0; L_map is 0 if
            its weight is, or without a phrase map.
        """
        image_generator, settings = self.image_generator, self.settings
        objective = objective_for(
            image_generator.schedule, settings.timestep_density, settings.timestep_shift, settings.snr_gamma
        )
        x0 = self._image_latents(batch).float()  # bfloat16 under autocast
        steps = objective.draw_timesteps(generators)
        noise = generators.normal(*x0.shape[1:])
        if settings.offset_noise > 0:
            noise = noise + settings.offset_noise * generators.normal(x0.shape[1], 1, 1)
        noised = objective.noised(x0, noise, steps)
        u = generators.uniform()
        all_dropped = u < settings.layout_dropout  # neither layout nor text
        text_dropped = u < settings.layout_dropout + settings.caption_dropout
        grounding = self._grounding(batch, cond, generators, all_dropped)
        uncond = image_generator.uncond(len(batch))
        cond = self._without_pooled(cond, uncond, generators).where(~text_dropped, uncond)
        masked_images = self._masked_images(batch, generators)
        if grounding is not None and masked_images is not None:
            grounding = on_its_picture(grounding, masked_images.masks)
        z = self._layout_latents(batch, grounding, generators, all_dropped, masked_images)
        masked_latents = None if masked_images is None else image_generator.encode_masked_images(masked_images)
        letters, objects = letter_cover(batch, x0.shape[-2:]), object_cover(batch, x0.shape[-2:])
        denoising = mapping = x0.new_zeros(())
        if settings.diffusion_weight > 0:
            predicted = image_generator.vfe(noised.x_t, steps, z, cond, masked_latents).float()
            target = noised.target
            if self.teacher is not None:
                drawn = drawn_positions(objects, letters)
                told = None if grounding is None else told_positions(grounding, drawn)
                target = self.teacher(noised.x_t, steps, z, cond, drawn, told)
            error = (predicted - target).square().mean(dim=1)  # (B, h, w)
            pixel_weight = pixel_weights(letters, objects, settings.text_weight, settings.object_weight)
            denoising = (noised.loss_weight * (pixel_weight * error).mean(dim=(1, 2))).mean()
        if settings.map_weight > 0 and z is not None and grounding is not None:
            seen = covered(grounding.boxes, grounding.mask, (x0.shape[-2], x0.shape[-1])) * ~letters
            weight = seen * (1 + (settings.object_weight - 1) * objects)
            guess = z[:, x0.shape[1] : 2 * x0.shape[1]].float()  # the map's first channels, after the glyphs' latent
            mapping = (weight * (guess - x0).square().mean(dim=1)).mean()
        return denoising, mapping

    def _image_latents(self, batch: Batch) -> Tensor:
        """Return the images' latents (B, C_z, h, w), encoded here or cached."""
        if batch.latents is not None:
            return batch.latents.images
        return self.image_generator.autoencoder.encode_images(batch.images)

    def _layout_latents(
        self,
        batch: Batch,
        grounding: Grounding | None,
        generators: SampleGenerators,
        all_dropped: Tensor,
        masked_images: MaskedImages | None,
    ) -> Tensor | None:
        """Compute z_t, with an empty glyph map where the layout is dropped, and outside of the region to generate."""
        if not self.image_generator.hierarchical:
            return None
        unseen = all_dropped.view(-1, 1, 1, 1)
        if batch.latents is not None:
            own, empty = cast(Tensor, batch.latents.glyphs), cast(Tensor, batch.latents.no_glyphs)
            latent = torch.where(unseen, empty, own).to(self.image_generator.vfe.fusion.weight.dtype)
        else:
            unseen = unseen if masked_images is None else unseen | ~masked_images.masks
            glyphs = glyph_images(batch.glyphs).masked_fill(unseen, -1)
            latent = self.image_generator.autoencoder.encode_images(glyphs)
        return self.image_generator.complete_layout(
            latent, grounding, self.settings.augmentation, generators.generators, batch.layouts, all_dropped
        )

    def _masked_images(self, batch: Batch, generators: SampleGenerators) -> MaskedImages | None:
        """Draw the region to generate of each image, the whole image for some; None without inpainting."""
        if self.masking is None:
            return None
        height, width = batch.images.shape[-2:]
        return MaskedImages(batch.images, self.masking.draw(batch.layouts, (height, width), generators))

    def _grounding(
        self, batch: Batch, cond: Conditioning, generators: SampleGenerators, all_dropped: Tensor
    ) -> Grounding | None:
        """Return the objects' phrases and boxes, some dropped; None for an image generator without a phrase map."""
        if self.image_generator.vfe.phrase_map is None:
            return None
        mask = batch.object_mask & cond.object_mask & ~all_dropped[:, None]
        if self.settings.box_dropout > 0:
            mask = mask & (generators.uniform(mask.shape[1]) >= self.settings.box_dropout)
        colours = self.image_generator.named_colours(batch.prompts)
        patterns = self.image_generator.named_patterns(batch.prompts)
        grounds = self.image_generator.usual_grounds(
            batch.prompts, batch.layouts, batch.object_boxes, batch.object_mask & cond.object_mask
        )
        if grounds is not None:  # nothing is said of a dropped layout, nor of a sample without a known scene
            grounds = grounds * (batch.scene_known & ~all_dropped)[:, None]
        return Grounding(cond.objects, batch.object_boxes, mask, batch.object_counts, colours, patterns, grounds)

    def _without_pooled(self, cond: Conditioning, uncond: Conditioning, generators: SampleGenerators) -> Conditioning:
        """Replace the pooled t of some samples by the empty prompt's; their token states stay."""
        if self.settings.pooled_dropout == 0:
            return cond
        dropped = generators.uniform() < self.settings.pooled_dropout
        return replace(cond, pooled=torch.where(dropped[:, None], uncond.pooled, cond.pooled))


def letter_cover(batch: Batch, size: Sequence[int]) -> Tensor:
    """Return :func:`~vlad_lightning.layout.glyphs.near_letters`, (B, h, w) bool, cached or from the glyph maps."""
    return near_letters(glyph_images(batch.glyphs), size) if batch.latents is None else batch.latents.letters


def object_cover(batch: Batch, size: Sequence[int]) -> Tensor:
    """Return how much of each position lies in an object's box, (B, h, w) float in [0, 1]."""
    solid = batch.object_mask & ~fills_frame(batch.object_boxes)
    return covered(batch.object_boxes, solid, (size[0], size[1]))


def pixel_weights(letters: Tensor, objects: Tensor, text_weight: float, object_weight: float) -> Tensor:
    """Return the weight of the error at each position, (B, h, w) float: 1 where there is neither letter nor object.

    Args:
        letters: (B, h, w) bool, see :func:`~vlad_lightning.layout.glyphs.near_letters`.
        objects: (B, h, w) float in [0, 1], see :func:`object_cover`.
        text_weight: weight at letters.
        object_weight: weight in objects' boxes.
    """
    return torch.maximum(1 + (text_weight - 1) * letters, 1 + (object_weight - 1) * objects)
