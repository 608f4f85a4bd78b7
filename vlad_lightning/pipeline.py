"""VLADPipeline: prompts in, images and layouts out, as a diffusers pipeline."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image
from transformers import PreTrainedTokenizerFast

from vlad_lightning.diffusion.generators import generator_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.models.ccm import CCM, IdentityComposition
from vlad_lightning.models.codec import KLCodec, SpaceToDepthCodec
from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.models.glyphs import Rasterizer
from vlad_lightning.models.lora import fold
from vlad_lightning.models.prompt_encoder import PromptEncoder
from vlad_lightning.models.text_encoder import Spelling, TextEncoder
from vlad_lightning.models.tlg import TLG
from vlad_lightning.models.towers import DualTower, TextTower
from vlad_lightning.models.vfe import VFE
from vlad_lightning.models.width_adapter import WidthAdapter
from vlad_lightning.modules.layout_generator import LayoutGenerator
from vlad_lightning.modules.painter import Painter
from vlad_lightning.modules.vfe import VFEModule
from vlad_lightning.types import Layout


@dataclass
class VLADOutput(BaseOutput):
    """What a call returns.

    Attributes:
        images: PIL images, or a tensor (B, 3, H, W) float32 in [-1, 1] for ``output_type="pt"``.
        layouts: the layout of each image.
    """

    images: list[Image.Image] | Tensor
    layouts: list[Layout]


_MODULE = "pipeline"
_CODE = '''"""For plain diffusers: `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`."""

from vlad_lightning.pipeline import VLADPipeline

__all__ = ["VLADPipeline"]
'''


class VLADPipeline(DiffusionPipeline):
    """The whole system of Eq. 1: P(I | T) = P(I | Z_T) P(Z_T | T).

    Every part is a plain diffusers or transformers object, so ``save_pretrained`` writes safetensors and JSON, and
    ``from_pretrained`` reads them back and nothing else. The folder also has a ``pipeline.py`` that imports this class:
    with it, ``DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`` finds the class as well. ``tlg`` and
    the parts whose names begin with ``layout_`` make layouts; they are None for the system without hierarchical
    guidance.

    Args:
        tokenizer: of the painter's encoder.
        text_encoder: its text tower, adapters folded in.
        spelling: its character-level embedding.
        composition: its CCM, or the identity.
        fusion: Eq. 7.
        unet: the painter; None where a transformer paints.
        codec: images to latents and back.
        schedule: of the image diffusion.
        layout_tokenizer: of the layout generator's encoder.
        layout_text_encoder: likewise.
        layout_spelling: likewise.
        layout_composition: likewise.
        tlg: the layout denoiser.
        layout_schedule: of the layout diffusion.
        transformer: the painter in the UNet's place; None where a UNet paints.
        image_size: H = W in pixels.
        max_words: words to draw a prompt may have.
        max_objects: further phrases that are read.
        font: font file of the rasteriser; None is its default.
        text_adapter: brings the painter's text tower to another width; None where it has it.
        layout_text_adapter: likewise, of the layout generator.
        skip_layers: see :class:`~vlad_lightning.models.text_encoder.TextEncoder`.
        context: likewise.
    """

    _optional_components = [  # noqa: RUF012  # a list: diffusers adds another to it
        "unet",
        "transformer",
        "layout_tokenizer",
        "layout_text_encoder",
        "layout_spelling",
        "layout_composition",
        "tlg",
        "layout_schedule",
        "text_adapter",
        "layout_text_adapter",
    ]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: TextTower,
        spelling: Spelling,
        composition: CCM | IdentityComposition,
        fusion: LatentFusion,
        unet: UNet2DConditionModel | None,
        codec: SpaceToDepthCodec | KLCodec,
        schedule: DDPMScheduler | FlowMatchEulerDiscreteScheduler,
        layout_tokenizer: PreTrainedTokenizerFast | None = None,
        layout_text_encoder: TextTower | None = None,
        layout_spelling: Spelling | None = None,
        layout_composition: CCM | IdentityComposition | None = None,
        tlg: TLG | None = None,
        layout_schedule: DDPMScheduler | FlowMatchEulerDiscreteScheduler | None = None,
        transformer: SD3Transformer2DModel | None = None,
        image_size: int = 64,
        max_words: int = 4,
        max_objects: int = 12,
        font: str | None = None,
        text_adapter: WidthAdapter | None = None,
        layout_text_adapter: WidthAdapter | None = None,
        skip_layers: int = 0,
        context: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            spelling=spelling,
            composition=composition,
            fusion=fusion,
            unet=unet,
            codec=codec,
            schedule=schedule,
            layout_tokenizer=layout_tokenizer,
            layout_text_encoder=layout_text_encoder,
            layout_spelling=layout_spelling,
            layout_composition=layout_composition,
            tlg=tlg,
            layout_schedule=layout_schedule,
            text_adapter=text_adapter,
            layout_text_adapter=layout_text_adapter,
            transformer=transformer,
        )
        for part in self.components.values():
            if isinstance(part, nn.Module):
                _settle(part)
        self.register_to_config(image_size=image_size, max_words=max_words, max_objects=max_objects, font=font)
        self.register_to_config(skip_layers=skip_layers, context=context)

    @classmethod
    def from_module(cls, module: VFEModule) -> VLADPipeline:
        """The pipeline of a trained stage 2: a copy, with the adapters folded in; the module is left as it is.

        Raises:
            ValueError: where painter and layout generator read another number of words or objects.
        """
        painter, layouts = copy.deepcopy((module.painter, module.layout_generator))
        encoder = painter.prompt_encoder.text_encoder
        if layouts is not None:
            other = layouts.prompt_encoder.text_encoder
            sizes = [(e.max_words, e.max_objects, e.skip_layers, e.context) for e in (encoder, other)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"(max_words, max_objects, skip_layers, context) is {sizes[0]} in the painter, {sizes[1]} in the "
                    "layouts"
                )
        parts: dict[str, Any] = _encoder_parts(painter.prompt_encoder)
        if layouts is not None:
            parts |= {f"layout_{name}": part for name, part in _encoder_parts(layouts.prompt_encoder).items()}
            parts |= {"tlg": layouts.tlg, "layout_schedule": layouts.schedule}
        parts |= {"unet": None, painter.vfe.network_name: painter.vfe.plain_network()}
        return cls(
            **parts,
            fusion=painter.vfe.fusion,
            codec=painter.codec,
            schedule=painter.schedule,
            image_size=painter.image_size,
            max_words=encoder.max_words,
            max_objects=encoder.max_objects,
            font=painter.rasterizer.font,
            skip_layers=encoder.skip_layers,
            context=encoder.context,
        )

    def save_config(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the index and ``pipeline.py``; ``save_pretrained`` calls it, before it pushes anything."""
        super().save_config(save_directory, push_to_hub, **kwargs)
        folder = Path(save_directory)
        index = folder / self.config_name
        content = json.loads(index.read_text(encoding="utf-8")) | {"_class_name": [_MODULE, type(self).__name__]}
        content.pop("_name_or_path", None)  # a folder of this machine
        (folder / f"{_MODULE}.py").write_text(_CODE, encoding="utf-8")
        index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """The index of a folder; it names this class, so that no code of the folder is run to find it."""
        loaded = super().load_config(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)["_class_name"] = cls.__name__
        return loaded

    @property
    def painter(self) -> Painter:
        """The parts that paint, joined."""
        return Painter(
            self._prompt_encoder(self.tokenizer, self.text_encoder, self.spelling, self.composition, self.text_adapter),
            VFE(self.fusion, self.unet, self.transformer),
            self.codec,
            self.schedule,
            self.config.image_size,
            Rasterizer(self.config.font),
        )

    @property
    def layout_generator(self) -> LayoutGenerator | None:
        """The parts that make layouts, joined; None without hierarchical guidance."""
        if self.tlg is None:
            return None
        encoder = self._prompt_encoder(
            self.layout_tokenizer,
            self.layout_text_encoder,
            self.layout_spelling,
            self.layout_composition,
            self.layout_text_adapter,
        )
        return LayoutGenerator(encoder, self.tlg, self.layout_schedule)

    def _prompt_encoder(
        self,
        tokenizer: PreTrainedTokenizerFast,
        tower: TextTower,
        spelling: Spelling,
        composition: CCM | IdentityComposition,
        adapter: WidthAdapter | None,
    ) -> PromptEncoder:
        encoder = TextEncoder(
            tower,
            spelling,
            self.config.max_words,
            self.config.max_objects,
            width=spelling.config.width,
            skip_layers=self.config.skip_layers,
            context=self.config.context,
        )
        encoder.adapter = adapter
        encoder.tokenizer = tokenizer
        return PromptEncoder(encoder, composition)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        layouts: Layout | Sequence[Layout] | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.5,
        layout_scale: float = 1.0,
        sampler: Sampler = Sampler(),
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> VLADOutput:
        """Draw an image for each prompt; the words to draw stand in quotes.

        Args:
            prompt: one prompt or B of them.
            layouts: words and boxes of one's own, one layout a prompt; None has them generated.
            num_inference_steps: steps of the image diffusion.
            guidance_scale: the scale of the text.
            layout_scale: the scale of the layout.
            sampler: the remaining settings; the three above take precedence.
            generator: the randomness; None uses the sampler's seed.
            output_type: ``pil`` or ``pt``.

        Raises:
            ValueError: for another ``output_type``, another number of layouts than prompts, or more words than a layout
                holds.
        """
        if output_type not in ("pil", "pt"):
            raise ValueError(f"output_type is {output_type!r}; allowed are 'pil' and 'pt'")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = replace(sampler, steps=num_inference_steps, guidance_scale=guidance_scale, layout_scale=layout_scale)
        generator = generator or generator_for("cpu", settings.seed, "pipeline")
        placed = self._layouts(prompts, layouts, sampler, generator)
        painting = self.painter.paint(prompts, placed, settings, generator, self.progress_bar)
        images = painting.images.cpu()
        pictures = images if output_type == "pt" else [to_pil_image(image) for image in to_bytes(images)]
        return VLADOutput(images=pictures, layouts=list(painting.layouts))

    def _layouts(
        self, prompts: list[str], given: Layout | Sequence[Layout] | None, sampler: Sampler, generator: torch.Generator
    ) -> tuple[Layout, ...]:
        if given is not None:
            given = (given,) if isinstance(given, Layout) else tuple(given)
            if len(given) != len(prompts):
                raise ValueError(f"layouts has {len(given)} entries; {len(prompts)} prompts need one each")
            return given
        layouts = self.layout_generator
        if layouts is None:
            return tuple(Layout.empty() for _ in prompts)
        layouts.check(prompts)
        return layouts.sample(prompts, Sampler(augmentation=0.0, eta=sampler.eta), generator)


def _settle(network: nn.Module) -> None:
    """Make what was saved and loaded paint the same, bit for bit.

    A CPU's kernels round differently in training mode, for weights that have gradients, and for those that safetensors
    left at odd addresses.
    """
    network.requires_grad_(False).eval()
    for value in (*network.parameters(), *network.buffers()):
        if value.data_ptr() % 64:
            value.data = value.data.clone()


def to_bytes(images: Tensor) -> Tensor:
    """(B, 3, H, W) float in [-1, 1] -> the nearest uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _encoder_parts(encoder: PromptEncoder) -> dict[str, Any]:
    text = encoder.text_encoder
    tower: Any = text.tower
    if text.lora is not None:
        build: Any = type(tower).from_config if isinstance(tower, DualTower) else type(tower)
        tower = build(text.tower.config)
        tower.load_state_dict(fold(text.tower.state_dict(), text.lora.scale))
    return {
        "tokenizer": text.tokenizer,
        "text_encoder": tower,
        "text_adapter": text.adapter,
        "spelling": text.spelling,
        "composition": encoder.composition,
    }
