"""ARTIST (arXiv 2406.12044): a UNet of pictures that listens, step by step, to a frozen diffusion of words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from vlad_lightning.baselines.artist_text import TextModule
from vlad_lightning.baselines.artist_unet import FeatureBridge, check_plain, feature_channels, run_unet
from vlad_lightning.baselines.denoising import Branches, DenoisingSettings, guided, noised_data, weighted_error
from vlad_lightning.baselines.stable_diffusion import StableDiffusion
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import objective_for
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Batch, Conditioning, Layout


class Artist(StableDiffusion):
    """The visual module over the text module, whose features of the same step it adds to its own.

    In training the text module reads the true picture of the words, noised to the image's timestep; in sampling both
    modules are denoised side by side, each from noise of its own. Captions and features are dropped together, and
    guidance is against having neither.

    Autoencoder, schedule, image size and rasteriser are the text module's.

    Args:
        text_module: trained before, frozen here.
        text_encoder: the token states that the visual module attends to.
        unet: the visual module.
        training: settings of the loss; ``caption_dropout`` drops the features as well.
        freeze_text_tower: False trains the visual module's text tower.
        layout_generator: frozen; places the words where no layout is given. None leaves such layouts empty.
        bridge_kernel: side of the convolutions between the modules.

    Raises:
        ValueError: if channels, widths or blocks do not fit, or a UNet has further conditions.
    """

    uses_layouts = True

    def __init__(
        self,
        text_module: TextModule,
        text_encoder: TextEncoder,
        unet: UNet2DConditionModel,
        training: DenoisingSettings = DenoisingSettings(),
        freeze_text_tower: bool = True,
        layout_generator: LayoutGenerator | None = None,
        bridge_kernel: int = 1,
    ) -> None:
        super().__init__(
            text_encoder,
            unet,
            text_module.autoencoder,
            text_module.schedule,
            text_module.image_size,
            training,
            freeze_text_tower,
            layout_generator,
            text_module.rasterizer,
        )
        check_plain(unet, "unet")
        _check_same_parser(text_module.prompt_encoder, self.prompt_encoder)
        self.text_module = text_module.requires_grad_(False).eval()
        self.bridge = FeatureBridge(feature_channels(text_module.unet), feature_channels(unet), bridge_kernel)

    def train(self, mode: bool = True) -> Artist:
        """Switch the visual module only: the frozen text module stays in evaluation."""
        super().train(mode)
        self.text_module.eval()
        return self

    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Compute the weighted error of the images, see :class:`~vlad_lightning.baselines.Baseline`."""
        x0 = self.autoencoder.encode_images(batch.images)
        steps, noised = noised_data(self.schedule, self.settings, x0, generators)
        features = self.hear(batch, steps, generators)
        dropped = generators.uniform() < self.settings.caption_dropout
        cond = self.prompt_encoder(batch.texts).where(~dropped, self.uncond(len(batch)))
        predicted = self.listen(noised.x_t, steps, cond, features, ~dropped)
        return {"loss": weighted_error(predicted, noised, batch, self.settings)}

    @torch.no_grad()
    def hear(self, batch: Batch, steps: Tensor, generators: SampleGenerators) -> tuple[Tensor, ...]:
        """Return the text module's features for the true pictures of the words, noised to the images' timesteps."""
        text = self.text_module
        words = self.autoencoder.encode_images(text.target_pictures(batch, generators))
        noised = objective_for(self.schedule).noised(words, generators.normal(*words.shape[1:]), steps)
        return text.run(noised.x_t, steps, text.prompt_encoder(batch.texts), text.batch_hint(batch)).features

    def listen(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        cond: Conditioning,
        features: Sequence[Tensor],
        hears: Tensor | None = None,
    ) -> Tensor:
        """Predict epsilon, v, x0 or a velocity, according to the schedule.

        Args:
            x_t: (B, C_z, h, w) float.
            timesteps: (B,).
            cond: of B captions.
            features: of the text module at the same timesteps.
            hears: (B,) bool, the rows to which the features are added; None means all.

        Returns:
            (B, C_z, h, w) float.
        """
        added = self.bridge(features, hears)
        return run_unet(self.unet, x_t, timesteps, cond.tokens, cond.read_mask, added).output

    def sample(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """See :class:`~vlad_lightning.baselines.baseline.Baseline`; the sampler's state is both modules' latents."""
        text, size = self.text_module, len(prompts)
        hint, told = text.hint(self.draw_glyphs(layouts)), text.prompt_encoder(prompts)
        cond, uncond = self.prompt_encoder(prompts), self.uncond(size)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            pictures, words = x.to(hint).chunk(2, dim=1)
            heard = text.run(words, t, told, hint)

            def predict(x: Tensor, t: Tensor, texts: Branches) -> Tensor:
                rows = Conditioning.cat([cond if each else uncond for each in texts])
                features = [feature.repeat(len(texts), 1, 1, 1) for feature in heard.features]
                hears = torch.tensor(texts, device=x.device).repeat_interleave(size)
                return self.listen(x, t, rows, features, hears)

            return torch.cat([guided(predict, sampler, self.schedule)(pictures, t), heard.output.float()], dim=1)

        shape = (size, 2 * hint.shape[1], *hint.shape[2:])
        noise = randn_tensor(shape, generator=list(generators), device=self.device)
        latents = sampler.draw(denoise, noise, self.schedule, generators).chunk(2, dim=1)[0]
        return self.autoencoder.decode_latents(latents.to(hint.dtype)).float().clamp(-1, 1)


def _check_same_parser(first: PromptEncoder, second: PromptEncoder) -> None:
    """Refuse prompt encoders that would parse a caption differently: it is parsed once for both.

    Raises:
        ValueError: naming the setting.
    """
    for name in ("max_words", "max_objects", "context", "mask_padding"):
        values = [getattr(encoder.text_encoder, name) for encoder in (first, second)]
        if values[0] != values[1]:
            raise ValueError(
                f"text_encoder.{name} is {values[0]} in the text module and {values[1]} in the visual module; they "
                "must be the same"
            )
