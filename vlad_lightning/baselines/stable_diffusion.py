"""Stable Diffusion (arXiv 2112.10752) as a baseline: a UNet that attends to the text, and nothing about layouts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from vlad_lightning.baselines.baseline import Baseline
from vlad_lightning.baselines.denoising import Branches, DenoisingSettings, guided, noised_data, weighted_error
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import Schedule, check_schedule
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.painter.backbone import UNetBackbone
from vlad_lightning.models.text.ccm import IdentityComposition
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Batch, Conditioning, Layout


class StableDiffusion(Baseline):
    """A latent diffusion model conditioned on the text alone.

    The UNet gets the noised latent and attends to the token states of VLAD's text encoder, without the CCM, the
    embedding of spelling and the pooled t. The loss is VLAD's L_diff, with the same weights by time and position.

    Systems that add a condition to the UNet are subclasses: they override :meth:`hint` and :meth:`predict`.

    Args:
        text_encoder: the text encoder of stage 0; its embedding of spelling and its projection for t_g are not read.
        unet: the denoising network.
        autoencoder: frozen; encodes images to latents, and decodes latents.
        schedule: the forward process of the latents; its class decides between DDPM and flow matching.
        image_size: H = W in pixels.
        training: settings of the loss.
        freeze_text_tower: False trains the text tower, for one that is not pretrained.
        layout_generator: see :class:`~vlad_lightning.baselines.baseline.Baseline`.
        rasterizer: likewise.

    Raises:
        ValueError: where channels or widths differ, or the schedule cannot be trained on.
    """

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
    ) -> None:
        super().__init__(image_size, layout_generator, rasterizer)
        check_schedule(schedule)
        _check_unet(unet, text_encoder, autoencoder.latent_channels, autoencoder.latent_channels + self.added_channels)
        self.prompt_encoder = PromptEncoder(text_encoder, IdentityComposition())
        freeze_unread(text_encoder)
        if freeze_text_tower:
            text_encoder.tower.requires_grad_(False)
        self.unet = unet
        self._backbone = UNetBackbone(unet)
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.schedule = schedule
        self.settings = training

    added_channels = 0
    """Channels that a subclass gives the UNet beside the noised latent."""

    @property
    def encoder(self) -> nn.Module | None:
        """The prompt encoder."""
        return self.prompt_encoder

    @property
    def parser(self) -> PromptParser:
        """The prompt encoder's parser."""
        return self.prompt_encoder.parser

    def check(self, sampler: ImageSampler) -> None:
        """Refuse a sampler that does not fit the schedule, and settings that only VLAD has.

        Raises:
            ValueError: naming the setting.
        """
        super().check(sampler)
        sampler.check(self.schedule)

    def hint(self, glyphs: Tensor) -> Tensor | None:
        """Return what the UNet gets of B drawn layouts (B, 3, H, W); None: nothing."""
        return None

    def predict(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning, hint: Tensor | None) -> Tensor:
        """Predict epsilon, v, x0 or a velocity, according to the schedule.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,).
            cond: the conditioning of the B prompts.
            hint: what :meth:`hint` returned, for B rows.

        Returns:
            (B, C_z, h, w) float.
        """
        return self._backbone(x_t, timesteps, cond)

    def uncond(self, size: int) -> Conditioning:
        """Return the conditioning of the empty prompt, ``size`` times."""
        return self.prompt_encoder.empty().expand(size)

    def encode_prompts(self, batch: Batch, generators: SampleGenerators) -> Conditioning:
        """Encode the prompts of a batch, the share ``caption_dropout`` of them replaced by the empty prompt."""
        cond = self.prompt_encoder(batch.texts)
        dropped = generators.uniform() < self.settings.caption_dropout
        return cond.where(~dropped, self.uncond(len(batch)))

    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Compute L_diff, see :class:`~vlad_lightning.baselines.baseline.Baseline`."""
        x0 = self.autoencoder.encode_images(batch.images).float()  # bfloat16 under autocast
        steps, noised = noised_data(self.schedule, self.settings, x0, generators)
        cond = self.encode_prompts(batch, generators)
        predicted = self.predict(noised.x_t, steps, cond, self.batch_hint(batch))
        return {"loss": weighted_error(predicted, noised, batch, self.settings)}

    def layout_hint(self, layouts: Sequence[Layout]) -> Tensor | None:
        """Return what the UNet gets of B layouts; None for a system without layouts."""
        return self.hint(self.draw_glyphs(layouts)) if self.uses_layouts else None

    def batch_hint(self, batch: Batch) -> Tensor | None:
        """Return the hint of a batch with its true layouts; None for a system without layouts."""
        return None

    def sample(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """See :class:`~vlad_lightning.baselines.baseline.Baseline`."""
        cond, uncond = self.prompt_encoder(prompts), self.uncond(len(prompts))
        hint = self.layout_hint(layouts)

        @cache
        def inputs(texts: Branches) -> tuple[Conditioning, Tensor | None]:
            many = None if hint is None else hint.repeat(len(texts), *[1] * (hint.ndim - 1))
            return Conditioning.cat([cond if text else uncond for text in texts]), many

        def predict(x: Tensor, t: Tensor, texts: Branches) -> Tensor:
            return self.predict(x.to(cond.pooled), t, *inputs(texts))

        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=self.device, dtype=self.unet.dtype)
        shape = self.autoencoder.encode_images(blank).shape[1:]
        noise = randn_tensor((len(prompts), *shape), generator=list(generators), device=self.device)
        latents = sampler.draw(guided(predict, sampler, self.schedule), noise, self.schedule, generators)
        return self.autoencoder.decode_latents(latents.to(blank.dtype)).float().clamp(-1, 1)


def freeze_unread(text_encoder: TextEncoder) -> None:
    """Freeze the weights of a text encoder that its token states do not depend on."""
    text_encoder.character_encoder.requires_grad_(False)
    projection = getattr(text_encoder.tower, "text_projection", None)
    if isinstance(projection, nn.Module):
        projection.requires_grad_(False)


def _check_unet(unet: UNet2DConditionModel, text_encoder: TextEncoder, latent: int, channels: int) -> None:
    """Refuse a UNet whose channels do not match the autoencoder's, or that attends to another width."""
    for name, own, needed in (
        ("in_channels", unet.config.in_channels, channels),
        ("out_channels", unet.config.out_channels, latent),
        ("cross_attention_dim", unet.config.cross_attention_dim, text_encoder.width),
    ):
        if own != needed:
            raise ValueError(f"unet.{name} is {own}; the autoencoder and the text encoder need {needed}")
