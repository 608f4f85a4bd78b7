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
from vlad_lightning.metrics.ocr_engine import OCRLocator, RapidOCREngine
from vlad_lightning.models.ccm import CCM, IdentityComposition
from vlad_lightning.models.codec import KLCodec, SpaceToDepthCodec
from vlad_lightning.models.fusion import LatentFusion
from vlad_lightning.models.glyphs import Rasterizer
from vlad_lightning.models.lora import fold
from vlad_lightning.models.pictures import mask_tensor, picture_tensor, resized, stretched
from vlad_lightning.models.prompt_encoder import PromptEncoder
from vlad_lightning.models.prompts import drawn_words
from vlad_lightning.models.region import RegionFusion
from vlad_lightning.models.text_encoder import Spelling, TextEncoder
from vlad_lightning.models.tlg import TLG
from vlad_lightning.models.towers import DualTower, TextTower
from vlad_lightning.models.vfe import VFE
from vlad_lightning.models.width_adapter import WidthAdapter
from vlad_lightning.modules.inpainting import check_inside, layout_in, masks_around
from vlad_lightning.modules.layout_generator import LayoutGenerator
from vlad_lightning.modules.painter import Painter
from vlad_lightning.modules.vfe import VFEModule
from vlad_lightning.types import Layout, Region


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
    with it, ``DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`` finds the class as well.

    It has three uses: calling it paints prompts, with layouts of its own or of the caller's; :meth:`with_template`
    takes the layout of a picture of text; :meth:`inpaint` paints into a picture. ``tlg`` and the parts whose names
    begin with ``layout_`` make layouts; they are None for the system without hierarchical guidance.

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
        region: what inpainting adds to Eq. 7; None for a painter that was not trained for it.
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
        "region",
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
        region: RegionFusion | None = None,
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
            region=region,
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
            region=painter.vfe.region,
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
            VFE(self.fusion, self.unet, self.transformer, region=self.region),
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
        guidance_scale: float = 3.0,
        layout_scale: float = 3.0,
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
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = replace(sampler, steps=num_inference_steps, guidance_scale=guidance_scale, layout_scale=layout_scale)
        generator = generator or generator_for("cpu", settings.seed, "pipeline")
        _check_output_type(output_type)
        placed = self._layouts(prompts, layouts, sampler, generator)
        painting = self.painter.paint(prompts, placed, settings, generator, self.progress_bar)
        return _output(painting.images.cpu(), painting.layouts, output_type)

    def with_template(
        self,
        prompt: str | Sequence[str],
        template: Image.Image | Tensor,
        engine: OCRLocator | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        layout_scale: float = 3.0,
        sampler: Sampler = Sampler(),
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> VLADOutput:
        """Draw an image for each prompt, with the words of a picture of text where they stand in it.

        Args:
            prompt: one prompt or B of them.
            template: see :meth:`read_layout`.
            engine: likewise.
            num_inference_steps: as of a call; so are the other settings.
            guidance_scale: likewise.
            layout_scale: likewise.
            sampler: likewise.
            generator: likewise.
            output_type: likewise.

        Raises:
            ValueError: where no text is read on ``template``, or as a call does.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        layouts = [self.read_layout(template, engine)] * len(prompts)
        return self(
            prompts,
            layouts,
            num_inference_steps,
            guidance_scale,
            layout_scale,
            sampler,
            generator,
            output_type,
        )

    @staticmethod
    def read_layout(template: Image.Image | Tensor, engine: OCRLocator | None = None) -> Layout:
        """The layout of a picture of text: a box a line that the OCR engine reads.

        Args:
            template: printed, drawn or photographed, of any size: a PIL image, or (3, H, W) float in [-1, 1].
            engine: reads it; None is RapidOCR.

        Raises:
            ValueError: where no text is read.
        """
        picture = picture_tensor(template, "template")
        layout = (engine or RapidOCREngine()).locate(picture)[0]
        if not len(layout):
            raise ValueError("no text is read on template; give a clearer picture, or a layout")
        return layout

    @torch.no_grad()
    def inpaint(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Tensor,
        mask: Image.Image | Tensor | None = None,
        layouts: Layout | Sequence[Layout] | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        layout_scale: float = 3.0,
        sampler: Sampler = Sampler(),
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> VLADOutput:
        """Paint a region of a picture anew, once for each prompt; every pixel outside it stays as it is.

        Args:
            prompt: one prompt or B of them, of the whole picture; the words to draw in the region stand in quotes.
            image: of any size, stretched to the painter's for painting: a PIL image, or (3, H, W) float in [-1, 1].
            mask: of the same size, white or 1 where the picture is painted; None is around the boxes of ``layouts``.
            layouts: the words of the region, in fractions of the whole picture, one layout a prompt; None sets the
                prompt's words as lines into the box around the mask.
            num_inference_steps: as of a call; so are the other settings.
            guidance_scale: likewise.
            layout_scale: likewise.
            sampler: likewise.
            generator: likewise.
            output_type: likewise; the images have the size of ``image``.

        Raises:
            ValueError: where the pipeline was not trained for it, the mask is empty or of another size, neither mask
                nor layouts are given, a layout has no word in the region, or as a call does.
        """
        _check_output_type(output_type)
        painter = self.painter
        if not painter.inpaints:
            raise ValueError("this pipeline has no region: train one for inpainting, as mini/stage2_inpaint.yaml does")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = replace(sampler, steps=num_inference_steps, guidance_scale=guidance_scale, layout_scale=layout_scale)
        generator = generator or generator_for("cpu", settings.seed, "pipeline")
        whole, placed = self._region(prompts, image, mask, layouts)
        region = resized(whole, painter.image_size)
        check_inside(painter, placed, region)
        painting = painter.paint(prompts, placed, settings, generator, self.progress_bar, region)
        painted = stretched(painting.images.cpu(), (whole.images.shape[-2], whole.images.shape[-1]))
        return _output(torch.where(whole.masks, painted, whole.images), placed, output_type)

    def _region(
        self,
        prompts: list[str],
        image: Image.Image | Tensor,
        mask: Image.Image | Tensor | None,
        layouts: Layout | Sequence[Layout] | None,
    ) -> tuple[Region, tuple[Layout, ...]]:
        """What is painted of the picture, at its own size, and the words of each prompt."""
        picture = picture_tensor(image)
        size = (picture.shape[-2], picture.shape[-1])
        masks = None if mask is None else mask_tensor(mask, size)
        if layouts is not None:
            placed = self._given(prompts, layouts)
        elif masks is not None:
            placed = tuple(layout_in(masks, prompt, self.config.font) for prompt in prompts)
            for layout in placed:
                self._rasterizer.check(layout.words, layout.fonts)
        else:
            raise ValueError("mask and layouts are both None; inpainting needs one of them")
        if masks is None:
            masks = masks_around(placed, size)
        images = picture.expand(len(prompts), -1, -1, -1)
        return Region(images, masks.expand(len(prompts), -1, -1, -1)), placed

    def _layouts(
        self, prompts: list[str], given: Layout | Sequence[Layout] | None, sampler: Sampler, generator: torch.Generator
    ) -> tuple[Layout, ...]:
        if given is not None:
            return self._given(prompts, given)
        layouts = self.layout_generator
        if layouts is None:
            return tuple(Layout.empty() for _ in prompts)
        layouts.check(prompts)
        self._rasterizer.check([word for prompt in prompts for word in drawn_words(prompt)])
        return layouts.sample(prompts, Sampler(augmentation=0.0, eta=sampler.eta), generator)

    def _given(self, prompts: list[str], layouts: Layout | Sequence[Layout]) -> tuple[Layout, ...]:
        """The caller's own layouts, checked before anything is painted."""
        given = (layouts,) if isinstance(layouts, Layout) else tuple(layouts)
        if len(given) != len(prompts):
            raise ValueError(f"layouts has {len(given)} entries; {len(prompts)} prompts need one each")
        for layout in given:
            self._rasterizer.check(layout.words, layout.fonts)
        return given

    @property
    def _rasterizer(self) -> Rasterizer:
        return Rasterizer(self.config.font)


def _check_output_type(output_type: str) -> None:
    if output_type not in ("pil", "pt"):
        raise ValueError(f"output_type is {output_type!r}; allowed are 'pil' and 'pt'")


def _output(images: Tensor, layouts: Sequence[Layout], output_type: str) -> VLADOutput:
    pictures = images if output_type == "pt" else [to_pil_image(image) for image in to_bytes(images)]
    return VLADOutput(images=pictures, layouts=list(layouts))


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
