"""A trained stage 2 as the components of a pipeline, and prompt encoders joined of such components again."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerFast

from vlad_lightning.models.ccm import CCM, IdentityComposition
from vlad_lightning.models.lora import fold
from vlad_lightning.models.prompt_encoder import PromptEncoder
from vlad_lightning.models.text_encoder import Spelling, TextEncoder
from vlad_lightning.models.towers import DualTower, TextTower
from vlad_lightning.models.width_adapter import WidthAdapter
from vlad_lightning.modules.vfe import VFEModule


@dataclass(frozen=True)
class EncoderParts:
    """The components of one prompt encoder.

    Attributes:
        tokenizer: of the text tower.
        text_encoder: the text tower, without adapters.
        spelling: the character-level embedding.
        composition: the CCM, or the identity.
        text_adapter: brings the tower to another width; None where it has it.
    """

    tokenizer: PreTrainedTokenizerFast
    text_encoder: TextTower
    spelling: Spelling
    composition: CCM | IdentityComposition
    text_adapter: WidthAdapter | None

    @classmethod
    def of(cls, encoder: PromptEncoder) -> EncoderParts:
        """The parts of an encoder, the adapters folded into a tower of its own."""
        text = encoder.text_encoder
        tower: Any = text.tower
        if text.lora is not None:
            build: Any = type(tower).from_config if isinstance(tower, DualTower) else type(tower)
            tower = build(text.tower.config)
            tower.load_state_dict(fold(text.tower.state_dict(), text.lora.scale))
        tokenizer: Any = text.tokenizer
        composition: Any = encoder.composition
        return cls(tokenizer, tower, text.spelling, composition, text.adapter)

    def named(self, prefix: str = "") -> dict[str, Any]:
        """The parts by the names of the pipeline's components."""
        return {f"{prefix}{name}": part for name, part in vars(self).items()}

    def joined(self, max_words: int, max_objects: int, skip_layers: int, context: int | None) -> PromptEncoder:
        """The encoder; the arguments are those of :class:`~vlad_lightning.models.text_encoder.TextEncoder`."""
        encoder = TextEncoder(
            self.text_encoder,
            self.spelling,
            max_words,
            max_objects,
            width=self.spelling.config.width,
            skip_layers=skip_layers,
            context=context,
        )
        encoder.adapter = self.text_adapter
        encoder.tokenizer = self.tokenizer
        return PromptEncoder(encoder, self.composition)


def components_of(module: VFEModule) -> dict[str, Any]:
    """What :class:`~vlad_lightning.pipeline.VLADPipeline` is made of: copies, with the adapters folded in.

    Steps and scales are those that the module tests with.

    Raises:
        ValueError: where painter and layout generator read another number of words or objects.
    """
    painter, layouts = copy.deepcopy((module.painter, module.layout_generator))
    sizes = _sizes(painter.prompt_encoder)
    parts = EncoderParts.of(painter.prompt_encoder).named()
    if layouts is not None:
        other = _sizes(layouts.prompt_encoder)
        if sizes != other:
            raise ValueError(
                f"{_told(sizes)} is {tuple(sizes.values())} in the painter, {tuple(other.values())} in the layouts"
            )
        parts |= EncoderParts.of(layouts.prompt_encoder).named("layout_")
        parts |= {"tlg": layouts.tlg, "layout_schedule": layouts.schedule}
    vfe = painter.vfe
    parts |= {"unet": None, vfe.network_name: vfe.plain_network(), "fusion": vfe.fusion, "region": vfe.region}
    parts |= {"codec": painter.codec, "schedule": painter.schedule}
    parts |= {name: getattr(module.sampler, name) for name in ("steps", "guidance_scale", "layout_scale")}
    return parts | sizes | {"image_size": painter.image_size, "font": painter.rasterizer.font}


def settle(network: nn.Module) -> None:
    """Make what was saved and loaded paint the same, bit for bit.

    A CPU's kernels round differently in training mode, for weights that have gradients, and for those that safetensors
    left at odd addresses.
    """
    network.requires_grad_(False).eval()
    for value in (*network.parameters(), *network.buffers()):
        if value.data_ptr() % 64:
            value.data = value.data.clone()


def _sizes(encoder: PromptEncoder) -> dict[str, int | None]:
    text = encoder.text_encoder
    names = ("max_words", "max_objects", "skip_layers", "context")
    return {name: getattr(text, name) for name in names}


def _told(sizes: dict[str, int | None]) -> str:
    return f"({', '.join(sizes)})"
