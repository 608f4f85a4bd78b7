"""Splitting a trained stage 2 into the components of a pipeline, and joining prompt encoders from components."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedTokenizerFast

from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.limits import check_idle
from vlad_lightning.models.lora import fold
from vlad_lightning.models.text.ccm import CCM, IdentityComposition
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.text.towers import DualTower, TextTower
from vlad_lightning.models.text.width_adapter import WidthAdapter

if TYPE_CHECKING:  # it imports Lightning, which only training needs
    from vlad_lightning.modules.vfe import VFEModule


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of a prompt encoder, besides its parts; a pipeline's configuration has these fields.

    Attributes:
        max_words: see :class:`~vlad_lightning.models.text.encoder.TextEncoder`, also for the next four.
        max_objects: see there.
        skip_layers: see there.
        context: see there.
        mask_padding: see there.
        read_phrases: see :class:`~vlad_lightning.models.text.prompt_encoder.PromptEncoder`.
    """

    max_words: int
    max_objects: int
    skip_layers: int
    context: int | None
    mask_padding: bool
    read_phrases: bool

    @classmethod
    def of(cls, encoder: PromptEncoder) -> EncoderSettings:
        """Return the settings of an encoder."""
        text = encoder.text_encoder
        names = [field.name for field in fields(cls) if field.name != "read_phrases"]
        return cls(**{name: getattr(text, name) for name in names}, read_phrases=encoder.read_phrases)


@dataclass(frozen=True)
class EncoderParts:
    """The components of one prompt encoder.

    Attributes:
        tokenizer: the tokenizer of the text tower.
        text_encoder: the text tower, without adapters.
        character_encoder: the character-level embedding.
        composition: the CCM, or the identity.
        text_adapter: maps the tower's output to the encoder's width; None if the widths are equal.
    """

    tokenizer: PreTrainedTokenizerFast
    text_encoder: TextTower
    character_encoder: CharacterEncoder
    composition: CCM | IdentityComposition
    text_adapter: WidthAdapter | None

    @classmethod
    def of(cls, encoder: PromptEncoder) -> EncoderParts:
        """Return the parts of an encoder; LoRA adapters are folded into a new tower."""
        text = encoder.text_encoder
        tower: Any = text.tower
        if text.lora is not None:
            build: Any = type(tower).from_config if isinstance(tower, DualTower) else type(tower)
            tower = build(text.tower.config)
            tower.load_state_dict(fold(text.tower.state_dict(), text.lora.scale))
        tokenizer: Any = text.tokenizer
        composition: Any = encoder.composition
        return cls(tokenizer, tower, text.character_encoder, composition, text.adapter)

    def named(self, prefix: str = "") -> dict[str, Any]:
        """Return the parts by the names of the pipeline's components."""
        return {f"{prefix}{name}": part for name, part in vars(self).items()}

    def joined(self, settings: EncoderSettings) -> PromptEncoder:
        """Build the prompt encoder from the parts and these settings."""
        encoder = TextEncoder(
            self.text_encoder,
            self.character_encoder,
            settings.max_words,
            settings.max_objects,
            width=self.character_encoder.config.width,
            skip_layers=settings.skip_layers,
            context=settings.context,
            mask_padding=settings.mask_padding,
        )
        encoder.adapter = self.text_adapter
        encoder.tokenizer = self.tokenizer
        return PromptEncoder(encoder, self.composition, settings.read_phrases)


def components_of(module: VFEModule) -> dict[str, Any]:
    """Return the arguments of :class:`~vlad_lightning.pipeline.VLADPipeline`: copies, with the adapters folded in.

    The samplers' settings are those that the module tests with.

    Raises:
        ValueError: if image generator and layout generator read their prompts in different ways.
    """
    image_generator, layouts = copy.deepcopy((module.image_generator, module.layout_generator))
    settings = EncoderSettings.of(image_generator.prompt_encoder)
    parts = EncoderParts.of(image_generator.prompt_encoder).named()
    if layouts is not None:
        _check_same(settings, EncoderSettings.of(layouts.prompt_encoder))
        parts |= EncoderParts.of(layouts.prompt_encoder).named("layout_")
        parts |= {"tlg": layouts.tlg, "layout_scheduler": layouts.schedule, "typesetting": layouts.typesetting}
    vfe = image_generator.vfe
    parts |= {"unet": None, vfe.network_name: vfe.plain_network(), "fusion": vfe.fusion, "inpainting": vfe.inpainting}
    parts |= {"phrase_map": vfe.phrase_map, "layout_skip": vfe.layout_skip}
    parts |= {"autoencoder": image_generator.autoencoder, "scheduler": image_generator.schedule}
    parts |= asdict(module.sampler)
    parts |= {f"layout_{name}": value for name, value in asdict(module.layout_sampler).items()}
    parts |= {"image_size": image_generator.image_size, "font": image_generator.rasterizer.font}
    return parts | asdict(settings) | {"word_colours": image_generator.word_colours}


def check_idle_layouts(parts: Mapping[str, object], steps: int, solver: Any, eta: float) -> None:
    """Refuse parts and settings of a layout generator in a pipeline without a ``tlg``, where they have no effect.

    Args:
        parts: the parts of the layout generator by name; all must be None.
        steps: steps of the layout diffusion; must be the default.
        solver: its solver; must be the default.
        eta: its eta; must be the default.

    Raises:
        ValueError: naming the part or the setting.
    """
    why = "this pipeline has no tlg"
    for name, part in parts.items():
        if part is not None:
            raise ValueError(f"{name} is a {type(part).__name__}; it must be None: {why}")
    check_idle(Sampler(steps, solver, eta), [field.name for field in fields(Sampler)], why, "layout_")


def prepare_for_inference(network: nn.Module) -> None:
    """Prepare a network so that it generates the same after saving and loading, bit for bit.

    A CPU's kernels round differently in training mode, for weights that require gradients, and for weights that
    safetensors left at unaligned addresses.
    """
    network.requires_grad_(False).eval()
    for value in (*network.parameters(), *network.buffers()):
        if value.data_ptr() % 64:
            value.data = value.data.clone()


def _check_same(image_generator: EncoderSettings, layouts: EncoderSettings) -> None:
    """Refuse encoders with different settings, since a pipeline has one setting for both.

    The settings that only an image generator uses (the padding, the phrases among the tokens) are not compared.
    """
    other = replace(layouts, mask_padding=image_generator.mask_padding, read_phrases=image_generator.read_phrases)
    if image_generator != other:
        raise ValueError(
            f"the image generator's encoder has {asdict(image_generator)}; the layouts' has {asdict(other)}"
        )
