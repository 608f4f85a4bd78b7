"""Settings of stage 2's loss, and checks of settings that a module and its data module must share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from diffusers import FlowMatchEulerDiscreteScheduler
from lightning.pytorch import LightningModule

from vlad_lightning.diffusion.objective import TimestepDensity
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.limits import check_idle
from vlad_lightning.models.text.prompt_encoder import PromptEncoder


@dataclass(frozen=True)
class LossSettings:
    """Settings of L = L_align + lambda L_diff (Eq. 8) and of the dropout of its conditions.

    Attributes:
        diffusion_weight: lambda. 0 trains the phrase map and the prompt encoder alone, at a fraction of the cost: the
            denoising network is neither evaluated nor trained.
        caption_dropout: share of samples trained without their text, for guidance by the text.
        layout_dropout: share of samples trained without text and layout, for guidance by the layout.
        pooled_dropout: share of the others trained without the pooled t, so that the token states are used as well.
        box_dropout: share of the objects' boxes that are dropped, so that objects without a box are learned as well.
        augmentation: s of Eq. 6, the standard deviation of the noise on the layout's latent.
        text_weight: weight of the error at words; elsewhere it is 1.
        object_weight: weight of the error in objects' boxes; elsewhere it is 1.
        map_weight: weight of a third term that trains, in the boxes of the grounded phrases, the first channels of
            the phrase map to predict the image's latent at every noise level. 0 leaves it out.
        snr_gamma: see :func:`~vlad_lightning.diffusion.noising.add_noise`; flow matching has no such weight.
        timestep_shift: see :func:`~vlad_lightning.diffusion.noising.draw_uniform`.
        offset_noise: standard deviation of additional noise that is constant in each channel of a sample, so that the
            image generator learns to change an image's mean (Guttenberg, "Diffusion with Offset Noise", 2023); usually
            0.05 to 0.1. A schedule with zero terminal SNR does not need it.
        timestep_density: ``uniform`` or ``logit_normal``; None is the objective's default, see
            :func:`~vlad_lightning.diffusion.objective.objective_for`.

    Raises:
        ValueError: where a value is out of its range.
    """

    diffusion_weight: float = 1.0
    caption_dropout: float = 0.1
    layout_dropout: float = 0.05
    pooled_dropout: float = 0.0
    box_dropout: float = 0.0
    augmentation: float = 0.05
    text_weight: float = 1.0
    object_weight: float = 1.0
    map_weight: float = 0.0
    snr_gamma: float = 5.0
    timestep_shift: float = 0.0
    offset_noise: float = 0.0
    timestep_density: TimestepDensity | None = None

    def __post_init__(self) -> None:
        for name in ("caption_dropout", "layout_dropout", "pooled_dropout", "box_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if self.caption_dropout + self.layout_dropout >= 1:
            raise ValueError(
                f"caption_dropout + layout_dropout is {self.caption_dropout + self.layout_dropout}; it must be below 1"
            )
        for name in ("diffusion_weight", "map_weight", "augmentation", "timestep_shift", "offset_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("text_weight", "object_weight", "snr_gamma"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.timestep_density not in (None, *get_args(TimestepDensity)):
            allowed = ", ".join(map(repr, (None, *get_args(TimestepDensity))))
            raise ValueError(f"timestep_density is {self.timestep_density!r}; allowed are {allowed}")

    def check(self, image_generator: ImageGenerator) -> None:
        """Refuse settings that have no effect on an image generator, or that need more channels than it has.

        Raises:
            ValueError: naming the setting.
        """
        phrases = image_generator.vfe.phrase_map
        if self.diffusion_weight == 0 and (phrases is None or self.map_weight == 0):
            raise ValueError(
                "training.diffusion_weight is 0; then only a phrase map is left to train, which needs vfe.phrase_map "
                f"and a training.map_weight above 0 (it is {self.map_weight})"
            )
        if not image_generator.hierarchical:
            check_idle(self, ["augmentation"], "this image generator has no hierarchical guidance", "training.")
        if phrases is None:
            check_idle(self, ["box_dropout"], "this image generator has no phrase map", "training.")
        if isinstance(image_generator.schedule, FlowMatchEulerDiscreteScheduler):
            check_idle(self, ["snr_gamma"], "flow matching weighs all times alike", "training.")
        latent = image_generator.autoencoder.latent_channels
        mapped = 0 if phrases is None else latent if phrases.config.picture else phrases.channels
        if self.map_weight > 0 and mapped < latent:
            raise ValueError(
                f"training.map_weight is {self.map_weight}; it needs a phrase map with at least as many channels as "
                f"the latent, {latent}; it has {mapped}"
            )


def check_same(module: LightningModule, name: str, own_name: str, own: int) -> None:
    """Refuse a data module whose setting differs from the module's, before any work is done.

    Args:
        module: its trainer has the data module; a data module without that setting passes.
        name: name of the data module's setting.
        own_name: name of the module's setting, as it is typed on the command line.
        own: value of the module's setting.

    Raises:
        ValueError: naming both settings with their values.
    """
    given = _data_setting(module, name)
    if given not in (None, own):
        raise ValueError(f"data.{name} is {given} and {own_name} is {own}; they must be the same")


def check_size(module: LightningModule, own_name: str, own: int) -> None:
    """Refuse images smaller than a network's input, which it would have to enlarge.

    Args:
        module: its trainer has the data module; a data module without ``size`` passes.
        own_name: name of the setting of the network's input size.
        own: side of the network's input in pixels.

    Raises:
        ValueError: naming both settings with their values.
    """
    given = _data_setting(module, "size")
    if given is not None and given < own:
        raise ValueError(f"data.size is {given} and {own_name} is {own}; images must be at least as large")


def check_tokenizer(encoder: PromptEncoder, name: str) -> None:
    """Refuse a text encoder without a tokenizer; call it once callbacks and checkpoint have loaded theirs.

    Args:
        encoder: the prompt encoder.
        name: of its text encoder, as it is typed on the command line.

    Raises:
        ValueError: naming the text encoder.
    """
    if encoder.text_encoder.tokenizer is None:
        raise ValueError(
            f"{name} has no tokenizer; give it a checkpoint (--ckpt_path), or trainer.callbacks an InitFrom of an "
            "earlier stage or a TokenizerFromPretrained"
        )


def _data_setting(module: LightningModule, name: str) -> int | None:
    value: int | None = getattr(getattr(module.trainer, "datamodule", None), name, None)
    return value
