"""A cascade in pixel space as DeepFloyd IF: small images from the text, larger ones from these and the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from vlad_lightning.baselines.baseline import Baseline
from vlad_lightning.baselines.cascade_words import WordEncoder
from vlad_lightning.baselines.denoising import Branches, DenoisingSettings, guided, noised_data, weighted_error
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.objective import check_schedule
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.limits import MOST_SIDE, check_share, check_whole
from vlad_lightning.types import Batch, Layout

States = tuple[Tensor, Tensor]
"""Token states (B, L, D) float and their mask (B, L) bool."""
UPSCALER_SAMPLER = ImageSampler(steps=20, guidance_scale=4.0, eta=1.0)
"""IF's guidance of its second stage; at the published scale it takes 50 steps."""


class Cascade(Baseline):
    """Two pixel diffusions on a text encoder that is blind to letters; neither knows of a layout.

    Both stages are trained at once, on the same samples, and the text encoder with them.

    Args:
        text_encoder: states of a caption's words.
        base: the first stage, RGB to RGB at ``base_size``.
        upscaler: the second stage: takes the noisy image and the enlarged small one (6 channels), and the level of the
            noise on the latter (``class_embed_type: timestep``).
        schedule: the forward process of both stages, and its dynamic thresholding.
        base_size: H = W of the first stage in pixels.
        image_size: H = W of the second, a multiple.
        upscaler_sampler: sampler of the second stage; a run-time setting.
        noise_level: noise on the small image in sampling, as a share of the schedule's timesteps, IF's 250 of 1000; a
            run-time setting.
        most_noise: in training, that level is drawn evenly from 0 to this.
        training: settings of the loss.

    Raises:
        ValueError: if channels, widths or sizes do not fit, or ``noise_level`` is above ``most_noise``, where nothing
            is trained.
    """

    uses_layouts = False

    def __init__(
        self,
        text_encoder: WordEncoder,
        base: UNet2DConditionModel,
        upscaler: UNet2DConditionModel,
        schedule: DDPMScheduler,
        base_size: int = 32,
        image_size: int = 64,
        upscaler_sampler: ImageSampler = UPSCALER_SAMPLER,
        noise_level: float = 0.25,
        most_noise: float = 0.5,
        training: DenoisingSettings = DenoisingSettings(),
    ) -> None:
        super().__init__(image_size)
        check_schedule(schedule)
        check_share("most_noise", most_noise)
        if not 0 <= noise_level <= most_noise:
            raise ValueError(f"noise_level is {noise_level}; it must lie in [0, most_noise], [0, {most_noise}]")
        check_whole("base_size", base_size, 1, MOST_SIDE)
        check_whole("image_size", image_size, base_size, MOST_SIDE)
        if image_size % base_size:
            raise ValueError(f"image_size is {image_size}; it must be a multiple of base_size, {base_size}")
        for name, unet, inputs in (("base", base, 3), ("upscaler", upscaler, 6)):
            _check_stage(name, unet, inputs, text_encoder.width)
        self.text_encoder = text_encoder
        self.base = base
        self.upscaler = upscaler
        self.schedule = schedule
        self.base_size = base_size
        self.upscaler_sampler = upscaler_sampler
        self.noise_level, self.most_noise = noise_level, most_noise
        self.settings = training

    @property
    def encoder(self) -> WordEncoder:
        """The part that learns at ``encoder_lr``."""
        return self.text_encoder

    def check(self, sampler: ImageSampler) -> None:
        """Refuse samplers, of either stage, that are not ancestral or do not fit the schedule.

        Raises:
            ValueError: naming the setting.
        """
        total = self.schedule.config.num_train_timesteps
        for stage, each in (("sampler", sampler), ("upscaler_sampler", self.upscaler_sampler)):
            super().check(each)
            each.check(self.schedule)
            if (each.solver, each.eta) != ("ddim", 1.0):
                raise ValueError(
                    f"{stage} has solver {each.solver!r} and eta {each.eta}; they must be 'ddim' and 1.0: a cascade "
                    "samples from DDPM's posterior"
                )
            if total % each.steps:
                raise ValueError(f"{stage}.steps is {each.steps}; it must divide the schedule's {total} timesteps")

    def losses(self, batch: Batch, generators: SampleGenerators) -> dict[str, Tensor]:
        """Return the weighted errors of both stages, and their sum.

        Args:
            batch: B samples.
            generators: of their B rows.
        """
        small = shrunk(batch.images, self.base_size)
        states = self._encode(batch.prompts, generators.uniform() < self.settings.caption_dropout)
        steps, noised = noised_data(self.schedule, self.settings, small, generators)
        base = weighted_error(self._base(noised.x_t, steps, states), noised, batch, self.settings)
        level = (generators.uniform() * self._level(self.most_noise)).long()
        seen = self.schedule.add_noise(self._enlarged(small), generators.normal(*batch.images.shape[1:]), level)
        steps, noised = noised_data(self.schedule, self.settings, batch.images, generators)
        predicted = self._upscaler(noised.x_t, steps, states, seen, level)
        upscaler = weighted_error(predicted, noised, batch, self.settings)
        return {"loss": base + upscaler, "loss_base": base, "loss_upscaler": upscaler}

    def _level(self, share: float) -> int:
        """Return a share of the schedule as a timestep."""
        total: int = self.schedule.config.num_train_timesteps
        return min(int(share * total), total - 1)

    def _encode(self, prompts: Sequence[str], dropped: Tensor) -> States:
        """Encode B prompts, the empty one for the rows ``dropped`` (B,) bool."""
        return self.text_encoder(["" if d else p for p, d in zip(prompts, dropped.tolist(), strict=True)])

    def _base(self, x: Tensor, t: Tensor, states: States) -> Tensor:
        return self.base(x, t, encoder_hidden_states=states[0], encoder_attention_mask=states[1]).sample

    def _upscaler(self, x: Tensor, t: Tensor, states: States, seen: Tensor, level: Tensor) -> Tensor:
        """Predict the noise of (B, 3, H, W) beside the enlarged small image ``seen`` with noise of ``level`` (B,)."""
        return self.upscaler(
            torch.cat([x, seen], dim=1),
            t,
            encoder_hidden_states=states[0],
            encoder_attention_mask=states[1],
            class_labels=level,
        ).sample

    def _enlarged(self, small: Tensor) -> Tensor:
        return F.interpolate(small, (self.image_size, self.image_size), mode="bilinear", align_corners=True)

    def sample(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Sample B images, see :meth:`~vlad_lightning.baselines.baseline.Baseline.sample`."""
        told, untold = self._both(prompts)
        small = self._sampled(self._base, self.base_size, (told, untold), sampler, generators)
        level = torch.full((len(prompts),), self._level(self.noise_level), device=self.device)
        seen = self._enlarged(small)
        noise = randn_tensor(seen.shape, generator=list(generators), device=self.device)
        seen = self.schedule.add_noise(seen, noise, level)

        def upscaler(x: Tensor, t: Tensor, states: States) -> Tensor:
            many = len(x) // len(seen)
            return self._upscaler(x, t, states, seen.repeat(many, 1, 1, 1), level.repeat(many))

        return self._sampled(upscaler, self.image_size, (told, untold), self.upscaler_sampler, generators)

    def _both(self, prompts: Sequence[str]) -> tuple[States, States]:
        """Encode B prompts, and B empty ones, padded to one length."""
        states, mask = self.text_encoder([*prompts, *[""] * len(prompts)])
        (told, untold), (read, unread) = states.chunk(2), mask.chunk(2)
        return (told, read), (untold, unread)

    def _sampled(
        self,
        network: Callable[[Tensor, Tensor, States], Tensor],
        side: int,
        states: tuple[States, States],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Sample (B, 3, side, side) in [-1, 1] from DDPM's posterior, at evenly spaced steps from the noisiest on.

        Args:
            network: (x, timesteps, states) of the rows of all branches -> their noise.
            side: H = W.
            states: of the B prompts, and of B empty ones.
            sampler: steps and guidance.
            generators: B generators.
        """

        def predict(x: Tensor, t: Tensor, texts: Branches) -> Tensor:
            tokens, masks = zip(*(states[0] if text else states[1] for text in texts), strict=True)
            return network(x, t, (torch.cat(tokens), torch.cat(masks)))

        denoise = guided(predict, sampler, self.schedule)
        solver = DDPMScheduler.from_config(self.schedule.config, timestep_spacing="trailing")
        solver.set_timesteps(sampler.steps)
        x = randn_tensor((len(generators), 3, side, side), generator=list(generators), device=self.device)
        for timestep in solver.timesteps:
            t = torch.full((len(x),), int(timestep), device=x.device)
            x = solver.step(denoise(x, t), timestep, x, generator=list(generators)).prev_sample
        return x.clamp(-1, 1)


def shrunk(images: Tensor, side: int) -> Tensor:
    """Return (B, 3, H, W) images at H = W = ``side``, which divides their side: each pixel is the mean of its block."""
    return F.interpolate(images, (side, side), mode="area")


def _check_stage(name: str, unet: UNet2DConditionModel, inputs: int, width: int) -> None:
    needed: dict[str, object] = {"in_channels": inputs, "out_channels": 3, "cross_attention_dim": width}
    needed |= {"class_embed_type": None if name == "base" else "timestep"}
    for setting, value in needed.items():
        if (given := unet.config[setting]) != value:
            raise ValueError(f"{name}.{setting} is {given!r}; it must be {value!r}")
