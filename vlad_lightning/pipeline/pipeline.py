"""VLADPipeline: prompts in, images and layouts out, as a diffusers pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from vlad_lightning.diffusion.generators import split_generator
from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.diffusion.solvers import check_replacement, check_solver, forward_process, is_trainable
from vlad_lightning.files import naming
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.prediction import check_inside, generate_batch, resolve_layout
from vlad_lightning.generation.system import SystemSampling, VLADSystem
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.object_requests import unlearned_objects
from vlad_lightning.layout.pictures import mask_tensor, picture_tensor, read_template, to_bytes
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.unquoted_words import with_quotes
from vlad_lightning.limits import MOST_IMAGES, MOST_STEPS, check_call, check_whole
from vlad_lightning.metrics.ocr_engine import OCRLocator, RapidOCREngine
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.painter.attention import read_masks
from vlad_lightning.models.painter.fusion import InpaintingFusion, LatentFusion
from vlad_lightning.models.painter.layout_skip import LayoutSkip
from vlad_lightning.models.painter.phrase_map import PhraseMap
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.ccm import CCM, IdentityComposition
from vlad_lightning.models.text.encoder import CharacterEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.text.towers import TextTower
from vlad_lightning.models.text.width_adapter import WidthAdapter
from vlad_lightning.models.tlg import TLG
from vlad_lightning.pipeline.call_arguments import (
    StepCallback,
    check_has,
    check_tensor_inputs,
    negative_prompts,
    offload_device,
    prompt_list,
    repeated,
)
from vlad_lightning.pipeline.components import (
    EncoderParts,
    EncoderSettings,
    check_idle_layouts,
    components_of,
    prepare_for_inference,
)
from vlad_lightning.pipeline.model_index import add_code, check_files, check_weights
from vlad_lightning.pipeline.output import VLADOutput, check_output_type, output
from vlad_lightning.pretrained import find_weights
from vlad_lightning.types import Layout, MaskedImages, PromptBatch

if TYPE_CHECKING:  # it imports Lightning, which only training needs
    from vlad_lightning.modules.vfe import VFEModule

__all__ = ["VLADOutput", "VLADPipeline", "to_bytes"]


_OF_LAYOUT_GENERATOR = (
    *("layout_tokenizer", "layout_text_encoder", "layout_character_encoder", "layout_composition"),
    *("layout_scheduler", "layout_text_adapter"),
)


class VLADPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """The whole system of Eq. 1: P(I | T) = P(I | Z_T) P(Z_T | T).

    Every part is a plain diffusers or transformers object, so ``save_pretrained`` writes only safetensors and JSON,
    which ``from_pretrained`` reads back. The folder also has a ``pipeline.py`` that imports this class: through it,
    ``DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`` finds the class as well.

    It has three uses: a call generates images, with generated or given layouts; :meth:`with_template` takes the layout
    from an image of text; :meth:`inpaint` generates a region of an image. ``tlg`` and the parts whose names begin with
    ``layout_`` generate layouts; they are None for the system without hierarchical guidance.

    Args:
        tokenizer: tokenizer of the image generator's prompt encoder.
        text_encoder: its text tower, adapters folded in.
        character_encoder: its character-level embedding.
        composition: its CCM, or the identity.
        fusion: the fusion of Eq. 7.
        unet: the denoiser of the images; None if it is a transformer.
        autoencoder: turns images into latents and back.
        scheduler: noise schedule of the image diffusion, or a solver in its place (``scheduler`` can be replaced).
        layout_tokenizer: tokenizer of the layout generator's prompt encoder.
        layout_text_encoder: its text tower, adapters folded in.
        layout_character_encoder: its character-level embedding.
        layout_composition: its CCM, or the identity.
        tlg: the layout denoiser.
        layout_scheduler: noise schedule of the layout diffusion.
        transformer: the denoiser of the images instead of ``unet``; None if it is a UNet.
        inpainting: the addition to Eq. 7 for inpainting; None for an image generator that was not trained for it.
        phrase_map: draws the objects' phrases into their boxes; None for an image generator with word boxes only.
        layout_skip: a skip connection from z_t around the denoiser; None for an image generator without one.
        image_size: H = W in pixels.
        max_words: the most words to draw in a prompt.
        max_objects: the most further phrases that are read.
        font: font file of the rasteriser; None is its default.
        text_adapter: maps the image generator's text tower to the encoder's width; None if the widths are equal.
        layout_text_adapter: the same for the layout generator.
        word_colours: see :class:`~vlad_lightning.generation.image_generator.ImageGenerator`.
        typesetting: see :class:`~vlad_lightning.generation.layout_generator.LayoutGenerator`.
        skip_layers: see :class:`~vlad_lightning.models.text.encoder.TextEncoder`.
        context: see there.
        mask_padding: see there; for the image generator's encoder.
        read_phrases: see :class:`~vlad_lightning.models.text.prompt_encoder.PromptEncoder`; for the image generator's
            encoder.
        steps: steps of the image diffusion, if a call gives none. An export has the value that its stage was tested
            with, also of the following settings; see :class:`~vlad_lightning.generation.image_sampler.ImageSampler`.
        guidance_scale: guidance scale of the text.
        layout_scale: guidance scale of the layout.
        augmentation: noise of the layout's latent.
        eta: eta of the image diffusion.
        solver: solver of the image diffusion.
        cache_interval: interval at which a UNet's deep blocks run.
        fuse_qkv: whether the image generator computes queries, keys and values by one product.
        guidance_interval: interval of the noise time in which the scales act.
        guidance_rescale: phi of rescaled guidance.
        layout_steps: steps of the layout diffusion.
        layout_solver: solver of the layout diffusion.
        layout_eta: eta of the layout diffusion.
        nouns: the objects that its training data show, in the singular; empty where they are not known.

    Raises:
        ValueError: if a part or a setting of the layout generator is given without ``tlg``.
    """

    _optional_components = [  # noqa: RUF012  # a list, since diffusers appends a list to it
        "unet",
        "transformer",
        "layout_tokenizer",
        "layout_text_encoder",
        "layout_character_encoder",
        "layout_composition",
        "tlg",
        "layout_scheduler",
        "text_adapter",
        "layout_text_adapter",
        "inpainting",
        "phrase_map",
        "layout_skip",
    ]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: TextTower,
        character_encoder: CharacterEncoder,
        composition: CCM | IdentityComposition,
        fusion: LatentFusion,
        unet: UNet2DConditionModel | None,
        autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder,
        scheduler: DDPMScheduler | FlowMatchEulerDiscreteScheduler,
        layout_tokenizer: PreTrainedTokenizerFast | None = None,
        layout_text_encoder: TextTower | None = None,
        layout_character_encoder: CharacterEncoder | None = None,
        layout_composition: CCM | IdentityComposition | None = None,
        tlg: TLG | None = None,
        layout_scheduler: DDPMScheduler | FlowMatchEulerDiscreteScheduler | None = None,
        transformer: SD3Transformer2DModel | None = None,
        inpainting: InpaintingFusion | None = None,
        phrase_map: PhraseMap | None = None,
        layout_skip: LayoutSkip | None = None,
        image_size: int = 64,
        max_words: int = 4,
        max_objects: int = 12,
        font: str | None = None,
        text_adapter: WidthAdapter | None = None,
        layout_text_adapter: WidthAdapter | None = None,
        skip_layers: int = 0,
        context: int | None = None,
        mask_padding: bool = False,
        read_phrases: bool = False,
        steps: int = 20,
        guidance_scale: float = 3.0,
        layout_scale: float = 3.0,
        augmentation: float = 0.0,
        eta: float = 0.0,
        solver: str = "ddim",
        cache_interval: int = 1,
        fuse_qkv: bool = False,
        guidance_interval: tuple[float, float] | list[float] = (0.0, 1.0),
        guidance_rescale: float = 0.0,
        layout_steps: int = 20,
        layout_solver: str = "ddim",
        layout_eta: float = 0.0,
        word_colours: bool = False,
        typesetting: bool = True,
        nouns: tuple[str, ...] | list[str] = (),  # diffusers reads the annotation: no Sequence
    ) -> None:
        super().__init__()
        self._trained = forward_process(scheduler)
        self._offload: torch.device | None = None
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            character_encoder=character_encoder,
            composition=composition,
            fusion=fusion,
            unet=unet,
            autoencoder=autoencoder,
            scheduler=scheduler,
            layout_tokenizer=layout_tokenizer,
            layout_text_encoder=layout_text_encoder,
            layout_character_encoder=layout_character_encoder,
            layout_composition=layout_composition,
            tlg=tlg,
            layout_scheduler=layout_scheduler,
            text_adapter=text_adapter,
            layout_text_adapter=layout_text_adapter,
            transformer=transformer,
            inpainting=inpainting,
            phrase_map=phrase_map,
            layout_skip=layout_skip,
        )
        for part in self.components.values():
            if isinstance(part, nn.Module):
                prepare_for_inference(part)
        if transformer is not None:
            read_masks(transformer)
        self.register_to_config(image_size=image_size, max_words=max_words, max_objects=max_objects, font=font)
        self.register_to_config(skip_layers=skip_layers, context=context, word_colours=word_colours)
        self.register_to_config(mask_padding=mask_padding, read_phrases=read_phrases)
        self.register_to_config(steps=steps, guidance_scale=guidance_scale, layout_scale=layout_scale)
        self.register_to_config(augmentation=augmentation, eta=eta, solver=solver)
        self.register_to_config(cache_interval=cache_interval, fuse_qkv=fuse_qkv)
        self.register_to_config(guidance_interval=guidance_interval, guidance_rescale=guidance_rescale)
        self.register_to_config(nouns=list(nouns))
        if tlg is None:
            idle = {name: self.components[name] for name in _OF_LAYOUT_GENERATOR}
            check_idle_layouts(idle, layout_steps, layout_solver, layout_eta)
        else:  # in the index only if they have an effect
            self.register_to_config(layout_steps=layout_steps, layout_solver=layout_solver, layout_eta=layout_eta)
            self.register_to_config(typesetting=typesetting)

    @classmethod
    def from_module(cls, module: VFEModule, nouns: Sequence[str] = ()) -> VLADPipeline:
        """Build the pipeline of a trained stage 2 from copies, with the adapters folded in; the module is unchanged.

        Args:
            module: the stage.
            nouns: the objects that its training data show; empty where they are not known.

        Raises:
            ValueError: if the prompt encoders of image generator and layout generator have different settings.
        """
        return cls(**components_of(module), nouns=list(nouns))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Any:
        """Load a pipeline; the arguments are those of ``DiffusionPipeline``.

        ``vlad-mini`` opens the model that ships with the package, without network access. A folder of that name in the
        working directory wins. The weights are loaded in float32 from files of any format, unless ``dtype`` (in older
        versions of diffusers: ``torch_dtype``) names another.

        Raises:
            FileNotFoundError: for ``vlad-mini`` if this installation is without its weights.
            ValueError: if a file is truncated or does not fit the others, or a component's files lack weights.
        """
        folder = str(find_weights(str(pretrained_model_name_or_path)))
        if not Path(folder).is_dir():
            folder = cls.download(folder, **kwargs)
        check_files(Path(folder))
        with naming(folder):
            pipe = super().from_pretrained(folder, **kwargs)
        loaded = {name: part for name, part in pipe.components.items() if name not in kwargs}
        check_weights(Path(folder), loaded)
        if not {"dtype", "torch_dtype"} & kwargs.keys():
            for part in loaded.values():
                if isinstance(part, nn.Module):
                    part.float()  # transformers keeps the format of a file
        return pipe

    def save_config(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the index and ``pipeline.py``; ``save_pretrained`` calls it, before it pushes anything."""
        super().save_config(save_directory, push_to_hub, **kwargs)
        add_code(Path(save_directory, self.config_name), type(self).__name__)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load the index of a folder and name this class in it, so that no code of the folder is run to find it."""
        loaded = super().load_config(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)["_class_name"] = cls.__name__
        return loaded

    def unknown_objects(self, prompt: str) -> tuple[str, ...]:
        """Return the phrases of a prompt for objects that the training data did not show; they cannot be drawn.

        Returns:
            The phrases, see :func:`~vlad_lightning.layout.object_requests.unlearned_objects`, which generated layouts
            leave out; none where it is not known what the data show.
        """
        return unlearned_objects(with_quotes(prompt), self.config.nouns) if self.config.nouns else ()

    @property
    def image_generator(self) -> ImageGenerator:
        """The image generator, joined from its parts."""
        return ImageGenerator(
            self._joined(
                EncoderParts(
                    self.tokenizer, self.text_encoder, self.character_encoder, self.composition, self.text_adapter
                )
            ),
            VFE(
                self.fusion,
                self.unet,
                self.transformer,
                inpainting=self.inpainting,
                phrase_map=self.phrase_map,
                layout_skip=self.layout_skip,
            ),
            self.autoencoder,
            self._schedule_trained,
            self.config.image_size,
            Rasterizer(self.config.font),
            self.config.word_colours,
        )

    @property
    def system(self) -> VLADSystem:
        """The whole system, joined from its parts."""
        return VLADSystem(self.image_generator, self.layout_generator)

    @property
    def layout_generator(self) -> LayoutGenerator | None:
        """The layout generator, joined from its parts; None without hierarchical guidance."""
        if self.tlg is None:
            return None
        parts = EncoderParts(
            self.layout_tokenizer,
            self.layout_text_encoder,
            self.layout_character_encoder,
            self.layout_composition,
            self.layout_text_adapter,
        )
        encoder, nouns = self._joined(parts), tuple(self.config.nouns or ())
        return LayoutGenerator(encoder, self.tlg, self.layout_scheduler, self.config.typesetting, nouns)

    def _joined(self, parts: EncoderParts) -> PromptEncoder:
        return parts.joined(EncoderSettings(**{f.name: self.config[f.name] for f in fields(EncoderSettings)}))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        layouts: Layout | Sequence[Layout] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        layout_scale: float | None = None,
        sampler: ImageSampler | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        layout_sampler: Sampler | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> VLADOutput:
        """Generate an image for each prompt; the words to draw are in quotes.

        Of a prompt without quotes, words are drawn that it seems to ask for
        (:func:`~vlad_lightning.layout.unquoted_words.with_quotes`).

        Args:
            prompt: one prompt or B of them.
            layouts: words and boxes to draw, one layout per prompt; None generates the layouts.
            num_inference_steps: steps of the image diffusion, instead of the sampler's.
            guidance_scale: guidance scale of the text, instead of the sampler's.
            layout_scale: guidance scale of the layout, instead of the sampler's.
            sampler: all settings of the image diffusion; None is :attr:`sampler`.
            generator: the randomness: one generator per image, or one from which those are seeded; None uses
                torch's global one, as in diffusers, so that each call gives other images.
            output_type: ``pil``, ``np``, ``pt`` or ``latent``, see :class:`~vlad_lightning.pipeline.VLADOutput`.
            layout_sampler: the settings by which layouts are generated; None is :attr:`layout_sampler`.
            negative_prompt: what guidance leads away from, for all prompts or one for each; None is the empty prompt.
                Without guidance of the text it has no effect.
            num_images_per_prompt: images of each prompt, one after the other.
            height: the images' height in pixels, a multiple of the autoencoder's factor (8 for Stable Diffusion's);
                None is the image generator's. Layouts are generated for a square, and placed in another frame without
                stretching (:func:`~vlad_lightning.layout.frames.into_frame`).
            width: likewise.
            latents: (B, C_z, h, w) float, standard normal: where the image diffusion starts, with B images in all;
                the layouts are still drawn from ``generator``. None draws them.
            return_dict: False returns a tuple of images and layouts.
            callback_on_step_end: called as ``callback(pipe, step, timestep, {"latents": latents})`` after each step of
                the image diffusion; it returns a mapping, whose ``latents`` are gone on with. It may set
                ``pipe._interrupt = True``, which ends the diffusion there.
            callback_on_step_end_tensor_inputs: what the callback is given; only ``latents`` is known.

        Raises:
            ValueError: for prompts of another kind or none, an unknown ``output_type``, a ``height`` or ``width`` that
                cannot be generated, a number of layouts or generators that differs from that of the images, more words
                than a layout holds, more or longer prompts than one call generates, settings that do not fit the
                scheduler or have no effect, or images that are not finite.
        """
        check_output_type(output_type)
        size = self._size(height, width)
        check_whole("num_images_per_prompt", num_images_per_prompt, 1, MOST_IMAGES)
        check_tensor_inputs(callback_on_step_end_tensor_inputs)
        single = self._prompts(prompt)
        prompts = repeated(single, num_images_per_prompt)
        check_call(prompts, *size)
        settings = self._settings(sampler, num_inference_steps, guidance_scale, layout_scale)
        generators = self._generators(prompts, generator)
        given = () if layouts is None else tuple(repeated(self._given(single, layouts), num_images_per_prompt))
        sampling = SystemSampling(settings, self._layout_settings(prompts, given, layout_sampler))
        negative = negative_prompts(negative_prompt, len(single))
        controls = self._controls(
            negative and repeated(negative, num_images_per_prompt), latents, callback_on_step_end, settings.steps, size
        )
        batch = PromptBatch((), tuple(prompts), given)
        generated = generate_batch(batch, self.system, sampling, generators, controls)
        images = self._latents if output_type == "latent" else generated.images
        return output(images.cpu(), generated.layouts, output_type, return_dict)

    def _controls(
        self,
        negative: Sequence[str] | None,
        latents: Tensor | None,
        callback: StepCallback | None,
        steps: int,
        size: tuple[int, int] | None = None,
    ) -> Controls:
        """Return what a call adds to the generation; keep the latents of the last step in ``_latents``."""
        self._interrupt, self._num_timesteps = False, steps

        def on_step(index: int, timestep: Tensor, x: Tensor) -> Tensor | None:
            if callback is not None:
                x = (callback(self, index, timestep, {"latents": x}) or {}).get("latents", x)
            self._latents = x
            return None if self._interrupt else x

        scheduler = None if is_trainable(self.scheduler) else self.scheduler
        return Controls(self.progress_bar, on_step, negative, latents, scheduler, size, self._offload)

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keep the parts on the CPU, and move those that are in use to an accelerator: less memory, a little slower.

        Args:
            gpu_id: number of the accelerator; None is 0, or that of ``device``.
            device: the accelerator; None is the one that torch finds.

        Raises:
            ValueError: without an accelerator, or if both arguments give a number.
        """
        self._offload = offload_device(gpu_id, device)
        self.to("cpu")

    def enable_vae_tiling(self, enabled: bool = True) -> None:
        """Encode and decode large pictures in tiles, so that they need less memory (a ``KLAutoencoder`` only).

        Raises:
            ValueError: for an autoencoder that has no tiling.
        """
        autoencoder = check_has(self.autoencoder, "autoencoder", "enable_tiling")
        autoencoder.enable_tiling() if enabled else autoencoder.disable_tiling()

    def enable_vae_slicing(self, enabled: bool = True) -> None:
        """Encode and decode a batch one picture at a time (a ``KLAutoencoder`` only).

        Raises:
            ValueError: for an autoencoder that has no slicing.
        """
        autoencoder = check_has(self.autoencoder, "autoencoder", "enable_slicing")
        autoencoder.enable_slicing() if enabled else autoencoder.disable_slicing()

    def load_lora_weights(self, pretrained_model_name_or_path_or_dict: Any, **kwargs: Any) -> None:
        """Load adapters of the UNet, as ``vlad-cli export --lora-folder`` writes them.

        ``fuse_lora``, ``unload_lora_weights``, ``set_adapters`` and the like are those of diffusers.

        Raises:
            ValueError: for an image generator that is a transformer.
        """
        if self.unet is None:
            raise ValueError("the image generator is a transformer; load_lora_weights reads adapters of a UNet only")
        super().load_lora_weights(pretrained_model_name_or_path_or_dict, **kwargs)

    @property
    def interrupt(self) -> bool:
        """Whether a callback has ended the image diffusion early."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Steps of the image diffusion of the last call."""
        return self._num_timesteps

    @property
    def _schedule_trained(self) -> Schedule:
        """The forward process: the scheduler, or what it replaces; refuse one that does not fit.

        Raises:
            ValueError: see :func:`~vlad_lightning.diffusion.solvers.check_replacement`.
        """
        check_replacement(self.scheduler, self._trained)
        return self.scheduler if is_trainable(self.scheduler) else self._trained

    def with_template(
        self,
        prompt: str | Sequence[str],
        template: Image.Image | Tensor,
        engine: OCRLocator | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        layout_scale: float | None = None,
        sampler: ImageSampler | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        **others: Any,
    ) -> VLADOutput:
        """Generate an image for each prompt, with the words and boxes that are read on an image of text.

        Args:
            prompt: one prompt or B of them.
            template: see :meth:`read_layout`.
            engine: see :meth:`read_layout`.
            num_inference_steps: see :meth:`__call__`, also for the following arguments.
            guidance_scale: see there.
            layout_scale: see there.
            sampler: see there.
            generator: see there.
            output_type: see there.
            **others: see there; any argument but ``layouts`` and ``layout_sampler``.

        Raises:
            ValueError: if no text is read on ``template``, or as :meth:`__call__` does.
        """
        prompts = self._prompts(prompt)
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
            **others,
        )

    @staticmethod
    def read_layout(template: Image.Image | Tensor, engine: OCRLocator | None = None) -> Layout:
        """Read the layout of an image of text: one box per line that the OCR engine reads.

        Args:
            template: printed, drawn or photographed text of any size: a PIL image, or (3, H, W) float in [-1, 1].
            engine: the OCR engine; None is RapidOCR.

        Raises:
            ValueError: if no text is read.
        """
        return read_template(template, engine or RapidOCREngine())

    @torch.no_grad()
    def inpaint(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Tensor,
        mask: Image.Image | Tensor | None = None,
        layouts: Layout | Sequence[Layout] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        layout_scale: float | None = None,
        sampler: ImageSampler | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        *,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
    ) -> VLADOutput:
        """Regenerate a region of an image, once for each prompt; every pixel outside the region stays as it is.

        Args:
            prompt: one prompt or B of them, for the whole image; the words to draw in the region are in quotes.
            image: the image, of any size; resized for generation: a PIL image, or (3, H, W) float in [-1, 1].
            mask: a mask of the same size, white or 1 in the region; None is around the boxes of ``layouts``.
            layouts: the words of the region, in fractions of the whole image, one layout per prompt; None sets the
                prompt's words as lines into the box around the mask.
            num_inference_steps: see :meth:`__call__`, also for the following arguments.
            guidance_scale: see there.
            layout_scale: see there.
            sampler: see there.
            generator: see there.
            output_type: see there, without ``latent``; the images have the size of ``image``.
            negative_prompt: see there.
            height: height in pixels of the frame in which the region is generated; if neither this nor ``width`` is
                given, it has about the area of the training's images, and nearly the proportions of ``image``.
            width: likewise.
            latents: see there; of that frame's size.
            return_dict: see there.
            callback_on_step_end: see there.

        Raises:
            ValueError: if the mask is empty or of another size, neither mask nor layouts are given, a layout has no
                word in the region, or as :meth:`__call__` does.
        """
        check_output_type(output_type, ("pil", "np", "pt"))
        image_generator = self.image_generator
        prompts = self._prompts(prompt)
        settings = self._settings(sampler, num_inference_steps, guidance_scale, layout_scale)
        generators = self._generators(prompts, generator)
        whole, placed = self._region(prompts, image, mask, layouts)
        check_inside(image_generator, placed, whole.masks)
        batch = PromptBatch((), tuple(prompts), placed, tuple(whole.images), tuple(whole.masks))
        negative = negative_prompts(negative_prompt, len(prompts))
        picture_size = (whole.images.shape[-2], whole.images.shape[-1])
        size = self._size(height, width) if height or width else image_generator.frame_for(*picture_size)
        controls = self._controls(negative, latents, callback_on_step_end, settings.steps, size)
        generated = generate_batch(batch, self.system, SystemSampling(settings), generators, controls)
        return output(torch.stack(generated.pictures), placed, output_type, return_dict)

    @property
    def sampler(self) -> ImageSampler:
        """The default settings of the image diffusion: in an export, those that its stage was tested with."""
        values = {field.name: self.config[field.name] for field in fields(ImageSampler)}
        if isinstance(values["guidance_interval"], list):  # JSON has no tuples
            values["guidance_interval"] = tuple(values["guidance_interval"])
        own = ImageSampler(**values)
        # the default of this class, and some folders, have a layout scale even if the image generator uses no layouts
        return own if self.image_generator.hierarchical else replace(own, layout_scale=1.0)

    @property
    def layout_sampler(self) -> Sampler:
        """The default settings of the layout diffusion, likewise; ``Sampler()`` without a ``tlg``."""
        if self.tlg is None:
            return Sampler()
        return Sampler(**{field.name: self.config[f"layout_{field.name}"] for field in fields(Sampler)})

    def _settings(
        self, sampler: ImageSampler | None, steps: int | None, text: float | None, layout: float | None
    ) -> ImageSampler:
        """Return the sampler of a call, with these steps and guidance scales unless they are None."""
        if steps is not None:
            check_whole("num_inference_steps", steps, 1, MOST_STEPS)
        given = {"steps": steps, "guidance_scale": text, "layout_scale": layout}
        settings = (sampler or self.sampler).changed(given)
        self.image_generator.check(settings)
        if not is_trainable(self.scheduler):
            check_solver(self.scheduler, settings.solver, settings.steps, settings.eta)
        return settings

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Return height and width of the images of a call, checked before anything is generated."""
        side = self.config.image_size
        size = (side if height is None else height, side if width is None else width)
        self.image_generator.check_size(*size)
        return size

    def _prompts(self, prompt: str | Sequence[str]) -> list[str]:
        """Return the prompts of a call as a list, checked before they are used."""
        prompts = prompt_list(prompt)
        side = self.image_generator.image_size
        check_call(prompts, side, side)
        return prompts

    def _region(
        self,
        prompts: list[str],
        image: Image.Image | Tensor,
        mask: Image.Image | Tensor | None,
        layouts: Layout | Sequence[Layout] | None,
    ) -> tuple[MaskedImages, tuple[Layout, ...]]:
        """Return the image with its region at its own size, one row per prompt, and the layout of each prompt."""
        picture = picture_tensor(image)
        size = (picture.shape[-2], picture.shape[-1])
        check_call(prompts, *size)
        masks = None if mask is None else mask_tensor(mask, size)
        if masks is None and layouts is None:
            raise ValueError("mask and layouts are both None; inpainting needs one of them")
        given = (None,) * len(prompts) if layouts is None else self._given(prompts, layouts)
        rows = [(layout, picture[0], None if masks is None else masks[0]) for layout in given]
        pairs = [resolve_layout(p, row, self.config.font) for p, row in zip(prompts, rows, strict=True)]
        placed = self._given(prompts, [layout for layout, _ in pairs if layout is not None])
        return MaskedImages.cat([region for _, region in pairs if region is not None]), placed

    @staticmethod
    def _generators(
        prompts: list[str], generator: torch.Generator | list[torch.Generator] | None
    ) -> list[torch.Generator]:
        """Return one generator per prompt."""
        generator = torch.default_generator if generator is None else generator
        if isinstance(generator, torch.Generator):
            return split_generator(generator, len(prompts))
        if len(generator) != len(prompts):
            raise ValueError(f"generator has {len(generator)} entries; {len(prompts)} prompts need one each, or one")
        return list(generator)

    def _layout_settings(self, prompts: list[str], given: Sequence[Layout], sampler: Sampler | None) -> Sampler:
        """Return how layouts are sampled, checked together with the prompts before anything is generated."""
        layouts = self.layout_generator
        if sampler is not None and (given or layouts is None):
            why = "layouts are given" if given else "this pipeline makes no layouts"
            raise ValueError(f"layout_sampler is {sampler}; it must be None: {why}")
        if given or layouts is None:
            return Sampler()
        own = sampler or self.layout_sampler
        own.check(layouts.schedule)
        layouts.check(prompts)
        self._rasterizer.check([word for prompt in prompts for word in drawn_words(with_quotes(prompt))])
        return own

    def _given(self, prompts: list[str], layouts: Layout | Sequence[Layout]) -> tuple[Layout, ...]:
        """Return the caller's layouts as a tuple, checked before anything is generated."""
        given = (layouts,) if isinstance(layouts, Layout) else tuple(layouts)
        if len(given) != len(prompts):
            raise ValueError(f"layouts has {len(given)} entries; {len(prompts)} prompts need one each")
        for prompt, layout in zip(prompts, given, strict=True):
            self._rasterizer.check(layout.words, layout.fonts)
            self.image_generator.check_objects(prompt, layout)
        return given

    @property
    def _rasterizer(self) -> Rasterizer:
        return Rasterizer(self.config.font)
