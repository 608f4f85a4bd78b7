"""L_diff, Eq. 9 with z_t: what the painter is asked in training, and how its error is weighted by time and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.diffusion.generators import RowDraws
from vlad_lightning.diffusion.objective import objective_for
from vlad_lightning.generation.image_generator import Painter
from vlad_lightning.generation.masking import Masking
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.masks import box_coordinates, fills_frame
from vlad_lightning.models.painter.phrase_map import Grounding
from vlad_lightning.modules.settings import PainterTraining
from vlad_lightning.types import Batch, Conditioning, Region


@dataclass(frozen=True)
class PainterLoss:
    """The diffusion loss of a painter.

    Attributes:
        painter: predicts.
        settings: what it is not told of some samples, and the weights.
        masking: which regions inpainting is trained on; None paints whole images only.
    """

    painter: Painter
    settings: PainterTraining
    masking: Masking | None = None

    def __call__(self, batch: Batch, told: Conditioning, draws: RowDraws) -> Tensor:
        """L_diff of one batch.

        Args:
            batch: B samples.
            told: what the encoder says of their prompts.
            draws: the randomness of the B rows.

        Returns:
            () float32.
        """
        painter, settings = self.painter, self.settings
        objective = objective_for(painter.schedule, settings.timestep_density, settings.high_noise, settings.snr_gamma)
        x0 = painter.codec.encode_images(batch.images).float()  # bfloat16 under autocast
        steps = objective.draw_timesteps(draws)
        noise = draws.normal(*x0.shape[1:])
        if settings.offset_noise > 0:
            noise = noise + settings.offset_noise * draws.normal(x0.shape[1], 1, 1)
        noised = objective.noised(x0, noise, steps)
        u = draws.uniform()
        bare = u < settings.layout_dropout  # neither layout nor text
        silent = u < settings.layout_dropout + settings.caption_dropout
        grounding = self._grounding(batch, told, draws, bare)
        untold = painter.untold(len(batch))
        told = self._without_pooled(told, untold, draws).where(~silent, untold)
        region = self._region(batch, draws)
        unseen = bare.view(-1, 1, 1, 1) if region is None else bare.view(-1, 1, 1, 1) | ~region.masks
        glyphs = glyph_images(batch.glyphs)
        z = painter.encode_layout(glyphs.masked_fill(unseen, -1), grounding, settings.augmentation, draws.generators)
        known = None if region is None else painter.encode_region(region)
        predicted = painter.vfe(noised.x_t, steps, z, told, known).float()
        error = (predicted - noised.target).square().mean(dim=1)  # (B, h, w)
        letters, things = self._letters(glyphs, error.shape[-2:]), self._things(batch, error.shape[-2:])
        place = torch.maximum(1 + (settings.text_weight - 1) * letters, 1 + (settings.object_weight - 1) * things)
        loss = (noised.weight * (place * error).mean(dim=(1, 2))).mean()
        if settings.map_weight > 0 and z is not None and grounding is not None:
            seen = _cover(grounding.boxes, grounding.mask, error.shape[-2:]) * ~letters
            weight = seen * (1 + (settings.object_weight - 1) * things)
            guess = z[:, x0.shape[1] : 2 * x0.shape[1]].float()  # behind the glyphs' latent: the map's first channels
            loss = loss + settings.map_weight * (weight * (guess - x0).square().mean(dim=1)).mean()
        return loss

    def _region(self, batch: Batch, draws: RowDraws) -> Region | None:
        """What is painted of each image, the whole of it for some; None without inpainting."""
        if self.masking is None:
            return None
        height, width = batch.images.shape[-2:]
        return Region(batch.images, self.masking.draw(batch.layouts, (height, width), draws))

    def _grounding(self, batch: Batch, told: Conditioning, draws: RowDraws, bare: Tensor) -> Grounding | None:
        """The objects' phrases and boxes, some left out; None for a painter without a phrase map."""
        if self.painter.vfe.phrase_map is None:
            return None
        mask = batch.object_mask & told.object_mask & ~bare[:, None]
        if self.settings.box_dropout > 0:
            mask = mask & (draws.uniform(mask.shape[1]) >= self.settings.box_dropout)
        return Grounding(told.objects, batch.object_boxes, mask)

    def _without_pooled(self, told: Conditioning, untold: Conditioning, draws: RowDraws) -> Conditioning:
        """Some samples with the empty prompt's pooled t, and their own token states."""
        if self.settings.pooled_dropout == 0:
            return told
        dropped = draws.uniform() < self.settings.pooled_dropout
        return replace(told, pooled=torch.where(dropped[:, None], untold.pooled, told.pooled))

    def _letters(self, glyphs: Tensor, size: Sequence[int]) -> Tensor:
        """(B, h, w) bool: on and beside the letters."""
        near = F.max_pool2d(glyphs.amax(dim=1), 3, stride=1, padding=1)
        return F.adaptive_max_pool2d(near, list(size)) > -0.5

    def _things(self, batch: Batch, size: Sequence[int]) -> Tensor:
        """(B, h, w) float in [0, 1]: how much of each place lies in the box of an object."""
        return _cover(batch.object_boxes, batch.object_mask & ~fills_frame(batch.object_boxes), size)


def _cover(boxes: Tensor, mask: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w) float in [0, 1]: how much of each place lies in one of the boxes (B, K, 5) that ``mask`` keeps."""
    cover = box_coordinates(boxes, (size[0], size[1]))[2] * mask[..., None, None]
    return cover.amax(dim=1) if cover.shape[1] else cover.sum(dim=1)
