"""Distillation of guidance: a student whose single evaluation is what the guided teacher needs two or three for."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from vlad_lightning.diffusion.guidance import ALWAYS
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules.diffusion_loss import DiffusionLoss
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.modules.vfe import VFEModule
from vlad_lightning.types import Conditioning

_DROPOUTS = ("caption_dropout", "layout_dropout", "pooled_dropout", "box_dropout")
_DISTILLING = LossSettings(caption_dropout=0, layout_dropout=0)


class DistillationModule(VFEModule):
    """Stage 2 once more: the image generator learns its own guided prediction (Meng et al., arXiv 2210.03142).

    With hierarchical guidance a step evaluates the network twice (equal scales) or three times, without it once. A
    frozen copy of the network, the teacher, is guided by fixed scales, and the student is trained to predict the same
    at every noise level, with the loss and weights of Eq. 9. Afterwards the student is sampled with both scales at 1.

    Fusion and denoising network are trained; encoder, phrase map and autoencoder, which both share, are frozen. The
    teacher is copied from the student when a fit starts, after the callbacks have loaded its weights, and is part of
    the checkpoints.

    Args:
        image_generator: the student, which starts from the weights to be distilled (:class:`~vlad_lightning.callbacks.
            InitFrom` or :class:`~vlad_lightning.callbacks.FromPipeline`).
        guidance: the teacher's scales, their limit and rescaling; other settings of it have no effect.
        layout_generator: see :class:`~vlad_lightning.modules.vfe.VFEModule`, also for the others.
        training: without dropout of the conditions and without the weight of the map.
        sampler: sampler of the student; a run-time setting.
        others: further arguments of :class:`~vlad_lightning.modules.vfe.VFEModule`.

    Raises:
        ValueError: where ``guidance`` guides nothing or in an interval, ``training`` drops conditions or trains the
            map, an image encoder or ``masking`` is given, or as :class:`~vlad_lightning.modules.vfe.VFEModule` does.
    """

    def __init__(
        self,
        image_generator: ImageGenerator,
        guidance: ImageSampler,
        layout_generator: LayoutGenerator | None = None,
        training: LossSettings = _DISTILLING,
        sampler: ImageSampler = ImageSampler(steps=5),
        image_encoder: None = None,
        **others: Any,
    ) -> None:
        super().__init__(
            image_generator=image_generator,
            image_encoder=image_encoder,
            layout_generator=layout_generator,
            training=training,
            sampler=sampler,
            **others,
        )
        image_generator.check(guidance)
        if guidance.guidance.branches == ImageSampler().guidance.branches:
            raise ValueError("guidance has both scales at 1, so there is nothing to distil")
        if guidance.guidance_interval != ALWAYS:
            raise ValueError(f"guidance.guidance_interval is {guidance.guidance_interval}; it must be {ALWAYS}")
        for name in (*_DROPOUTS, "map_weight"):
            if getattr(training, name) > 0:
                raise ValueError(f"training.{name} is {getattr(training, name)}; it must be 0 for a distillation")
        if self.masking is not None:
            raise ValueError(f"masking is {self.masking}; a distillation trains on whole images, so leave it out")
        self.guidance = guidance
        image_generator.prompt_encoder.requires_grad_(False)
        if image_generator.vfe.phrase_map is not None:
            image_generator.vfe.phrase_map.requires_grad_(False)
        self.teacher = _without_map(image_generator.vfe).requires_grad_(False).eval()  # without dropout

    def setup(self, stage: str) -> None:
        """Set up as :class:`~vlad_lightning.modules.vfe.VFEModule` does, and fill the teacher of a new fit."""
        super().setup(stage)
        if stage == "fit" and not self.trainer.ckpt_path:  # a checkpoint to resume from has the teacher
            own = self.image_generator.vfe.state_dict()
            self.teacher.load_state_dict({name: own[name] for name in self.teacher.state_dict()})

    def _learned(self, shown: tuple[str, ...]) -> tuple[str, ...]:
        return self.known_nouns or super()._learned(shown)  # a teacher teaches no more than it has learned

    @property
    def diffusion_loss(self) -> DiffusionLoss:
        """L_diff against the teacher's guided prediction."""
        return DiffusionLoss(self.image_generator, self.settings, teacher=self._taught)

    @torch.no_grad()
    def _taught(
        self,
        x: Tensor,
        timesteps: Tensor,
        z: Tensor | None,
        cond: Conditioning,
        drawn: Tensor,
        told: Tensor | None,
    ) -> Tensor:
        """Return the teacher's guided prediction (B, C_z, h, w) of x_t at ``timesteps`` (B,)."""
        uncond = self.image_generator.uncond(len(x))
        teacher = self.image_generator.guided(
            cond, uncond, z, self.guidance, network=self.teacher, drawn=drawn, told=told
        )
        return teacher(x, timesteps)


def _without_map(vfe: VFE) -> VFE:
    """Copy fusion and denoising network."""
    kept, vfe.phrase_map = vfe.phrase_map, None
    copied = copy.deepcopy(vfe)
    vfe.phrase_map = kept
    return copied
