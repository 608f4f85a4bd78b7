"""P(I | Z_T) of Eq. 1: prompts and layouts in, images out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from vlad_lightning.diffusion.guidance import ALWAYS, Branch
from vlad_lightning.diffusion.objective import Schedule, check_schedule, noise_time
from vlad_lightning.diffusion.sampler import Denoiser
from vlad_lightning.generation.blending import blended
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.colours import PALETTE, rgb_named
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images, near_letters
from vlad_lightning.layout.lettering_requests import with_lettering
from vlad_lightning.layout.masks import covered, fills_frame
from vlad_lightning.layout.object_requests import count_of
from vlad_lightning.layout.patterns import PATTERNS, pattern_named
from vlad_lightning.layout.phrase_colours import phrase_colours, says_colour
from vlad_lightning.layout.prompt_parser import bare_phrase
from vlad_lightning.layout.usual_ground import GROUNDS, usual_ground
from vlad_lightning.limits import MOST_PHRASES, MOST_SIDE, check_whole
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth
from vlad_lightning.models.painter.phrase_map import Grounding, PhraseMap
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.painter.word_colours import CHANNELS as COLOUR_CHANNELS
from vlad_lightning.models.painter.word_colours import draw_word_colours
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Conditioning, GeneratedImages, Layout, MaskedImages

_LEAST_SHARE = 1e-3  # of a box in a pixel at its edge


def _check_channels(vfe: VFE, autoencoder: SpaceToDepth | KLAutoencoder, word_colours: bool) -> None:
    """Refuse a fusion whose channels do not match those of the autoencoder and of the maps."""
    fusion = vfe.fusion.config
    mapped = (
        vfe.phrase_map.encoded_channels(autoencoder.latent_channels) if vfe.phrase_map else 0
    ) + word_colours * COLOUR_CHANNELS
    if fusion.latent_channels != autoencoder.latent_channels:
        raise ValueError(
            f"fusion.latent_channels is {fusion.latent_channels}; the autoencoder gives {autoencoder.latent_channels}"
        )
    layout = autoencoder.latent_channels + mapped
    if fusion.layout_channels != layout and (mapped or fusion.layout_channels != 0):
        raise ValueError(
            f"fusion.layout_channels is {fusion.layout_channels}; {layout} are needed: {autoencoder.latent_channels} "
            f"of the autoencoder and {mapped} of the maps (0 is no hierarchical guidance, without any map)"
        )


class ImageGenerator(nn.Module):
    """The VFE with all it needs to turn prompts and layouts into images.

    Args:
        prompt_encoder: computes t.
        vfe: denoises image latents; without hierarchical guidance its fusion has no ``layout_channels``.
        autoencoder: frozen; encodes images and glyph maps to latents, and decodes latents.
        schedule: the forward process of the latents; its class decides between DDPM and flow matching.
        image_size: H = W in pixels of the images that it is trained on.
        rasterizer: draws layouts as glyph maps.
        word_colours: whether z_t has channels for the colours of a layout's words.

    Raises:
        ValueError: where widths or channels differ, the schedule cannot be trained on, or ``image_size`` is out of its
            range.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        vfe: VFE,
        autoencoder: SpaceToDepth | LinearAutoencoder | KLAutoencoder,
        schedule: Schedule,
        image_size: int = 64,
        rasterizer: Rasterizer = Rasterizer(),
        word_colours: bool = False,
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        check_whole("image_size", image_size, 1, MOST_SIDE)
        fusion = vfe.fusion.config
        if fusion.text_width != prompt_encoder.width:
            raise ValueError(f"fusion.text_width is {fusion.text_width}; the encoder's width is {prompt_encoder.width}")
        _check_channels(vfe, autoencoder, word_colours)
        if vfe.backbone.added_width not in (None, prompt_encoder.text_encoder.added_width):
            raise ValueError(
                f"the unet adds a text embedding of width {vfe.backbone.added_width}; the text encoder gives "
                f"{prompt_encoder.text_encoder.added_width} (SDXL needs a DualTower)"
            )
        if vfe.inpainting is not None and vfe.inpainting.config.latent_channels != autoencoder.latent_channels:
            raise ValueError(
                f"region has latent_channels={vfe.inpainting.config.latent_channels}; the autoencoder gives "
                f"{autoencoder.latent_channels}"
            )
        self.prompt_encoder = prompt_encoder
        self.vfe = vfe
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.schedule = schedule
        self.image_size = image_size
        self.rasterizer = rasterizer
        self.word_colours = word_colours

    def check(self, sampler: ImageSampler) -> None:
        """Refuse a sampler that does not fit the schedule or the network, before any work is done.

        Raises:
            ValueError: naming the setting, also if it is for layouts and there is no hierarchical guidance.
        """
        sampler.check(self.schedule)
        for name, idle in (("layout_scale", 1.0), ("augmentation", 0.0)):
            if not self.hierarchical and getattr(sampler, name) != idle:
                raise ValueError(
                    f"{name} is {getattr(sampler, name)}; it must be {idle}: this image generator has no "
                    "hierarchical guidance"
                )
        self.vfe.backbone.check(sampler.cache_interval, sampler.fuse_qkv)

    def check_size(self, height: int, width: int) -> None:
        """Refuse a size in which no image can be generated.

        Raises:
            ValueError: naming the side and what is allowed.
        """
        step, largest = self._sides
        for name, side in (("height", height), ("width", width)):
            check_whole(name, side, step, largest)
            if side % step:
                raise ValueError(f"{name} is {side}; it must be a multiple of {step}")

    def frame_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width nearest to a picture's proportions, with the area of the training's images."""
        step, largest = self._sides
        scale = self.image_size / math.sqrt(height * width)
        down, across = (min(max(1, round(side * scale / step)) * step, largest) for side in (height, width))
        return down, across

    @property
    def _sides(self) -> tuple[int, int]:
        """What the sides of an image in pixels are multiples of, and the largest one."""
        positions, most = self.vfe.backbone.sides
        step = positions * self.autoencoder.factor
        return step, MOST_SIDE // step * step if most is None else most * self.autoencoder.factor

    @property
    def hierarchical(self) -> bool:
        """Whether the image generator is guided by the layout's latent."""
        return self.vfe.fusion.config.layout_channels > 0

    def encode_layout(
        self,
        glyphs: Tensor,
        grounding: Grounding | None = None,
        scale: float = 0.0,
        generators: Sequence[torch.Generator] | None = None,
        layouts: Sequence[Layout] | None = None,
        colourless: Tensor | None = None,
    ) -> Tensor | None:
        """Compute z_t = g + s * noise (Eq. 6), where g is the glyph map's latent, concatenated with the other maps.

        Args:
            glyphs: (B, 3, H, W) float in [-1, 1], drawn layouts.
            grounding: the objects' phrases and boxes; None leaves the phrase map empty.
            scale: s.
            generators: B generators of the noise; only used if s > 0.
            layouts: B layouts, for the colours of their words; None leaves that map empty.
            colourless: (B,) bool: layouts whose colours are left out; None leaves out none.

        Returns:
            (B, C, h, w) float, where C is the fusion's ``layout_channels``; None without hierarchical guidance.
        """
        if not self.hierarchical:
            return None
        latent = self.autoencoder.encode_images(glyphs)
        return self.complete_layout(latent, grounding, scale, generators, layouts, colourless)

    def complete_layout(
        self,
        latent: Tensor,
        grounding: Grounding | None = None,
        scale: float = 0.0,
        generators: Sequence[torch.Generator] | None = None,
        layouts: Sequence[Layout] | None = None,
        colourless: Tensor | None = None,
    ) -> Tensor:
        """Compute z_t as :meth:`encode_layout`, from the glyph map's latent (B, C_z, h, w)."""
        glyphs = latent
        if self.vfe.phrase_map is not None:
            letters = self._coloured_letters(glyphs, layouts, colourless)
            latent = torch.cat([latent, self._phrases_drawn(grounding, glyphs, letters)], dim=1)
        if self.word_colours:
            colours = _colours_drawn(layouts, glyphs, (glyphs.shape[-2], glyphs.shape[-1]), colourless)
            latent = torch.cat([latent, colours], dim=1)
        if scale == 0:
            return latent
        given = None if generators is None else list(generators)
        return latent + scale * randn_tensor(latent.shape, generator=given, device=latent.device, dtype=latent.dtype)

    def _coloured_letters(
        self, glyphs: Tensor, layouts: Sequence[Layout] | None, colourless: Tensor | None
    ) -> Tensor | None:
        """Draw the letters whose colour is told, as :meth:`PhraseMap.encode` takes them; None for a map without them.

        Their shapes come from the glyph map's latent (B, C_z, h, w), which may be all that a cache has of it.
        """
        phrase_map = cast(PhraseMap, self.vfe.phrase_map)
        if not phrase_map.config.coloured_letters or layouts is None:
            return None
        colours = _colours_drawn(layouts, glyphs, self._frame(glyphs), colourless)
        told = colours[:, 3:]
        ink = self.autoencoder.decode_latents(glyphs).mean(dim=1, keepdim=True).add(1).div(2).clamp(0, 1)
        return torch.cat([colours[:, :3] / told.clamp(min=_LEAST_SHARE), ink * told], dim=1)

    def _phrases_drawn(self, grounding: Grounding | None, latent: Tensor, letters: Tensor | None) -> Tensor:
        """Draw the phrase map beside a latent (B, C_z, h, w); None is an empty map."""
        phrase_map = cast(PhraseMap, self.vfe.phrase_map)
        if grounding is None:
            grounding = _nothing_grounded(len(latent), self.prompt_encoder.width, latent.device)
        cells = (latent.shape[-2], latent.shape[-1])
        return phrase_map.encode(grounding, self.autoencoder, self._frame(latent), cells, letters).to(latent)

    def _frame(self, latent: Tensor) -> tuple[int, int]:
        """Return height and width in pixels of the images that have such a latent."""
        return latent.shape[-2] * self.autoencoder.factor, latent.shape[-1] * self.autoencoder.factor

    def check_objects(self, prompt: str, layout: Layout) -> None:
        """Refuse a user's layout with objects that cannot be generated.

        Raises:
            ValueError: for too many objects, for objects and an image generator without a phrase map, or naming an
                object that the prompt does not have.
        """
        if len(layout.objects) > MOST_PHRASES:
            raise ValueError(f"the layout has {len(layout.objects):,} objects; at most {MOST_PHRASES:,} are generated")
        if layout.objects and self.vfe.phrase_map is None:
            names = ", ".join(map(repr, layout.objects))
            raise ValueError(
                f"the layout has the objects {names}; this image generator has no phrase map, so it takes none"
            )
        phrase_slots(layout.objects, self._phrases(prompt))

    def _phrases(self, prompt: str) -> list[str]:
        """Return the phrases of a prompt that may have a box."""
        text = self.prompt_encoder.text_encoder
        return [phrase.text for phrase in text.decompose(prompt).objects[: text.max_objects]]

    def ground(self, prompts: Sequence[str], layouts: Sequence[Layout], cond: Conditioning) -> Grounding:
        """Join the boxes of the layouts' objects with the phrases of their prompts.

        Args:
            prompts: B prompts.
            layouts: B layouts.
            cond: the encoder's output for the prompts.

        Raises:
            ValueError: naming an object that its prompt does not have.
        """
        text = self.prompt_encoder.text_encoder
        boxes = torch.zeros(len(prompts), text.max_objects, 5)
        mask = torch.zeros(len(prompts), text.max_objects, dtype=torch.bool)
        counts = torch.ones(len(prompts), text.max_objects, dtype=torch.int64)
        for row, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
            slots = phrase_slots(layout.objects, self._phrases(prompt))
            boxes[row, slots] = layout.object_boxes
            mask[row, slots] = True
            counts[row, slots] = torch.tensor([count_of(bare_phrase(name)) for name in layout.objects]).long()
        if self._has_usual_grounds:
            mask &= ~fills_frame(boxes) | self._tells_ground(prompts)
        grounds = self.usual_grounds(prompts, layouts, boxes, mask)
        boxes, mask, counts = (told.to(cond.phrases.device) for told in (boxes, mask, counts))
        named = self.named_colours(prompts), self.named_patterns(prompts)
        return Grounding(cond.objects, boxes, mask, counts, *named, grounds)

    @property
    def _has_usual_grounds(self) -> bool:
        return self.vfe.phrase_map is not None and self.vfe.phrase_map.config.usual_grounds

    def _tells_ground(self, prompts: Sequence[str]) -> Tensor:
        """Return which phrases say how a ground looks, by a colour or a pattern, (B, K) bool: no "christmas card"."""
        text = self.prompt_encoder.text_encoder
        tells = torch.zeros(len(prompts), text.max_objects, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            for slot, phrase in enumerate(self._phrases(prompt)):
                tells[row, slot] = says_colour(phrase) or pattern_named(phrase) is not None
        return tells

    def usual_grounds(
        self, prompts: Sequence[str], layouts: Sequence[Layout], boxes: Tensor, mask: Tensor
    ) -> Tensor | None:
        """Return the grounds of those of B prompts of which no phrase fills the frame, as :class:`Grounding` has them.

        Args:
            prompts: B prompts.
            layouts: B layouts, with the colours of their words that are told.
            boxes: (B, K, 5) float, the boxes of their phrases.
            mask: (B, K) bool: which phrases have a box.

        Returns:
            (B, 4) float32 on the image generator's device; None without a phrase map that reads them.
        """
        if not self._has_usual_grounds:
            return None
        text = self.prompt_encoder.text_encoder
        grounds = torch.zeros(len(prompts), 4)
        open_rows = ~(mask & fills_frame(boxes)).any(dim=1)
        for row in open_rows.nonzero().flatten().tolist():
            colours = phrase_colours(prompts[row], text.decompose(prompts[row]).objects[: text.max_objects])
            objects = [rgb for rgb, drawn in zip(colours, mask[row].tolist(), strict=False) if drawn and rgb]
            letters = [rgb for name in layouts[row].colours if name and (rgb := rgb_named(name))]
            usual = PALETTE[usual_ground(letters, objects) or usual_ground(letters, []) or GROUNDS[0]]
            grounds[row] = torch.tensor([*(v / 127.5 - 1 for v in usual), 1.0])
        return grounds.to(self.vfe.fusion.weight.device, non_blocking=True)

    def named_colours(self, prompts: Sequence[str]) -> Tensor | None:
        """Return the colours that the phrases of B prompts name, as :class:`Grounding` has them.

        Returns:
            (B, K, 4) float32 on the image generator's device; None without a phrase map that reads them.
        """
        if self.vfe.phrase_map is None or not self.vfe.phrase_map.config.named_colours:
            return None
        text = self.prompt_encoder.text_encoder
        colours = torch.zeros(len(prompts), text.max_objects, 4)
        for row, prompt in enumerate(prompts):
            phrases = text.decompose(prompt).objects
            for slot, rgb in enumerate(phrase_colours(prompt, phrases)[: text.max_objects]):
                if rgb is not None:
                    colours[row, slot] = torch.tensor([*(v / 127.5 - 1 for v in rgb), 1.0])
        return colours.to(self.vfe.fusion.weight.device, non_blocking=True)

    def named_patterns(self, prompts: Sequence[str]) -> Tensor | None:
        """Return the patterns that the phrases of B prompts name, as :class:`Grounding` has them.

        Returns:
            (B, K) int64 on the image generator's device; None if no phrase names one, and without a phrase map that
            reads them.
        """
        if self.vfe.phrase_map is None or not self.vfe.phrase_map.config.named_patterns:
            return None
        patterns = torch.zeros(len(prompts), self.prompt_encoder.text_encoder.max_objects, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            for slot, phrase in enumerate(self._phrases(prompt)):
                kind = pattern_named(phrase)
                patterns[row, slot] = 0 if kind is None else 1 + PATTERNS.index(kind)
        return patterns.to(self.vfe.fusion.weight.device, non_blocking=True) if patterns.any() else None

    @property
    def inpaints(self) -> bool:
        """Whether the network reads the known part of a picture, as one that was trained for inpainting does."""
        return self.vfe.inpainting is not None

    def encode_masked_images(self, masked_images: MaskedImages) -> Tensor | None:
        """Return the fusion's inputs for inpainting: the mask, and the latent of the picture with the region set to 0.

        Args:
            masked_images: B pictures of the image generator's size; if the region is the whole frame, nothing of the
                picture is used.

        Returns:
            (B, 1 + C_z, h, w) float; None for an image generator without inpainting.
        """
        if not self.inpaints:
            return None
        known = self.autoencoder.encode_images(masked_images.images.masked_fill(masked_images.masks, 0))
        return torch.cat([_latent_masks(masked_images.masks, known), known], dim=1)

    def uncond(self, size: int) -> Conditioning:
        """Return the unconditional input for ``size`` samples: the conditioning of the empty prompt.

        SDXL was trained with zeros instead (``force_zeros_for_empty_prompt``): if the network takes a text embedding,
        that embedding and the token states are zero. The pooled t, which only the fusion reads, is not zeroed.
        """
        empty = self.prompt_encoder.empty()
        if self.vfe.backbone.added_width is not None and empty.text_embeds is not None:
            zeros = torch.zeros_like(empty.tokens), torch.zeros_like(empty.text_embeds)
            empty = replace(empty, tokens=zeros[0], text_embeds=zeros[1])
        return empty.expand(size)

    def draw_glyphs(self, layouts: Sequence[Layout], size: tuple[int, int] | None = None) -> Tensor:
        """Draw the words of the layouts, white on black, (B, 1, H, W) uint8 on the CPU.

        Args:
            layouts: B layouts.
            size: height and width in pixels; None is the image generator's.
        """
        frame = size or (self.image_size, self.image_size)
        return torch.stack([self.rasterizer(layout, frame) for layout in layouts])

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
        masked_images: MaskedImages | None = None,
        controls: Controls = Controls(),
    ) -> GeneratedImages:
        """Generate images for ``B`` prompts with their layouts.

        Args:
            prompts: B prompts.
            layouts: B layouts; where they give no colours and fonts, those of the prompts are used.
            sampler: steps and scales.
            generators: B generators, the only source of randomness; each image depends only on its own.
            masked_images: B pictures of which only a region is generated: all other pixels are kept, and glyphs outside
                the region are not drawn. With a network that was not trained for inpainting, the region is blended
                into the picture (:func:`~vlad_lightning.generation.blending.blended`). None generates whole images.
            controls: what the caller adds; ``controls.size`` is that of ``masked_images``, if there are any.

        Raises:
            ValueError: if latents have a wrong shape.
        """
        device = controls.device or self.vfe.fusion.weight.device
        layouts = [with_lettering(layout, prompt) for layout, prompt in zip(layouts, prompts, strict=True)]
        glyphs = glyph_images(self.draw_glyphs(layouts, controls.size).to(device))
        if masked_images is not None:
            glyphs = glyphs.masked_fill(~masked_images.masks.to(device), -1)
        with controls.resident(self.prompt_encoder):
            cond = self.prompt_encoder(prompts)
            negative = controls.negative_prompts
            uncond = self.uncond(len(prompts)) if negative is None else self.prompt_encoder(negative)
        grounding = self.ground(prompts, layouts, cond) if self.vfe.phrase_map is not None else None
        if grounding is not None and masked_images is not None:
            grounding = on_its_picture(grounding, masked_images.masks)
        with controls.resident(self.autoencoder, self.vfe):
            weight = self.vfe.fusion.weight
            z = self.encode_layout(glyphs.to(weight), grounding, sampler.augmentation, generators, layouts)
            latent = self.autoencoder.encode_images(glyphs[:1].to(weight)) if z is None else z  # for its shape
            shape = (len(prompts), self.autoencoder.latent_channels, *latent.shape[2:])
            noise = _first_latents(controls.latents, shape, generators, device)
            known = self.masked_latents(masked_images, len(prompts), controls.size)
            with self.vfe.backbone.sampling(sampler.cache_interval, sampler.fuse_qkv) as forget:
                drawn = told = None
                if grounding is not None:
                    size = (latent.shape[-2], latent.shape[-1])
                    objects = covered(grounding.boxes, grounding.mask & ~fills_frame(grounding.boxes), size)
                    drawn = drawn_positions(objects, near_letters(glyphs, size))
                    told = told_positions(grounding, drawn)
                denoiser = self.guided(cond, uncond, z, sampler, known, forget, drawn=drawn, told=told)
                if masked_images is not None and not self.inpaints:
                    picture = self.autoencoder.encode_images(masked_images.images.to(weight))
                    region = _latent_masks(masked_images.masks, picture).bool()
                    denoiser = blended(denoiser, picture, region, self.schedule)
                solver = controls.scheduler or self.schedule
                latents = sampler.draw(denoiser, noise, solver, generators, controls.progress, controls.on_step)
        with controls.resident(self.autoencoder):
            images = self.autoencoder.decode_latents(latents.to(glyphs.device, weight.dtype)).float().clamp(-1, 1)
        if masked_images is not None:
            images = torch.where(masked_images.masks.to(images.device), images, masked_images.images.to(images))
        return GeneratedImages(images, tuple(layouts), glyphs, tuple(prompts))

    def masked_latents(
        self, masked_images: MaskedImages | None, count: int, size: tuple[int, int] | None = None
    ) -> Tensor | None:
        """Return the inpainting inputs of ``count`` pictures (:meth:`encode_masked_images`); None without inpainting.

        Args:
            masked_images: the pictures; None means that every whole frame is generated.
            count: B.
            size: height and width of the whole frames in pixels; None is the image generator's.
        """
        if masked_images is None:
            frame = size or (self.image_size, self.image_size)
            masked_images = MaskedImages(torch.zeros(count, 3, *frame), torch.ones(count, 1, *frame, dtype=torch.bool))
        weight = self.vfe.fusion.weight
        return self.encode_masked_images(
            MaskedImages(masked_images.images.to(weight), masked_images.masks.to(weight.device))
        )

    def guided(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        z: Tensor | None,
        sampler: ImageSampler,
        known: Tensor | None = None,
        forget: Callable[[], None] = lambda: None,
        network: VFE | None = None,
        drawn: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Denoiser:
        """Return the denoiser with hierarchical guidance, which evaluates all branches in one batch.

        Args:
            cond: of B prompts.
            uncond: of the branches without text.
            z: of their layouts.
            sampler: scales and interval.
            known: the inpainting inputs.
            forget: called before a step whose branches are not those of the step before.
            network: is evaluated; None is this image generator's own.
            drawn: (B, h, w) bool, where ``guidance_rescale`` acts, see :func:`drawn_positions`; None is everywhere.
            told: (B, h, w) bool, where guidance does not act, see :func:`told_positions`; None is nowhere.
        """
        guidance, network = sampler.guidance, network or self.vfe
        inputs = cache(partial(self._inputs, cond, uncond, z, known))
        before = guidance.branches

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            nonlocal before
            now = guidance
            if guidance.interval != ALWAYS:  # otherwise t is not read: a GPU would have to be waited for
                now = guidance.at(noise_time(self.schedule, t[0].item()))
            branches = now.branches
            if branches != before:
                forget()
            before = branches
            layout, text, given = inputs(branches)
            predicted = network(
                x.to(cond.pooled).repeat(len(branches), 1, 1, 1), t.repeat(len(branches)), layout, text, given
            )
            return now.combine(predicted.float().chunk(len(branches)), drawn, told)

        return denoise

    def _inputs(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        z: Tensor | None,
        known: Tensor | None,
        branches: tuple[Branch, ...],
    ) -> tuple[Tensor | None, Conditioning, Tensor | None]:
        """Return layout, text and inpainting inputs of all branches in one batch."""
        text = Conditioning.cat([cond if b.text else uncond for b in branches])
        layout = None
        if z is not None:
            # encoded for the whole batch, not once: an autoencoder's rounding depends on the batch size
            blank = z.new_full((len(z), 3, *self._frame(z)), -1)
            layout = torch.cat([z if b.layout else cast(Tensor, self.encode_layout(blank)) for b in branches])
        return layout, text, None if known is None else known.repeat(len(branches), 1, 1, 1)


def _latent_masks(masks: Tensor, latent: Tensor) -> Tensor:
    """Return the regions (B, 1, H, W) bool at the size of a latent, 0 or 1: with all positions that they touch."""
    return F.adaptive_max_pool2d(masks.to(latent), latent.shape[-2:])


def _colours_drawn(
    layouts: Sequence[Layout] | None, latent: Tensor, size: tuple[int, int], colourless: Tensor | None
) -> Tensor:
    """Draw the colours of the words beside a latent (B, C_z, h, w), (B, 4, *size); zeros where there are none."""
    if layouts is None:
        return latent.new_zeros(len(latent), COLOUR_CHANNELS, *size)
    colours = draw_word_colours(layouts, size, latent.device).to(latent)
    return colours if colourless is None else colours.masked_fill(colourless.view(-1, 1, 1, 1), 0)


def _first_latents(
    given: Tensor | None, shape: tuple[int, ...], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """Return the first x_t: the caller's, or drawn."""
    if given is None:
        return randn_tensor(shape, generator=list(generators), device=device)
    if given.shape != shape:
        raise ValueError(f"latents has the shape {tuple(given.shape)}; it must be {shape}")
    return given.to(device, torch.float32)


def drawn_positions(objects: Tensor, letters: Tensor) -> Tensor:
    """Return the positions of letters and objects, everything but the ground: (B, h, w) bool.

    Args:
        objects: (B, h, w) float in [0, 1]: how much of a position lies in an object's box.
        letters: (B, h, w) bool, see :func:`~vlad_lightning.layout.glyphs.near_letters`.
    """
    return letters | (objects > 0.5)


def told_positions(grounding: Grounding, drawn: Tensor) -> Tensor | None:
    """Return the positions of a ground whose pattern is told: (B, h, w) bool; None if there is none.

    The phrase map has such a pattern, pixel by pixel. Guidance made it up to 1.8 times as deep (decision 53).

    Args:
        grounding: the phrases of B prompts.
        drawn: (B, h, w) bool, see :func:`drawn_positions`.
    """
    if grounding.patterns is None:
        return None
    patterned = grounding.mask & (grounding.patterns > 0) & fills_frame(grounding.boxes)
    return patterned.any(dim=1)[:, None, None] & ~drawn


def on_its_picture(grounding: Grounding, masks: Tensor) -> Grounding:
    """Leave out the usual grounds where only a region is generated: its ground is the picture's, whatever that is.

    Args:
        grounding: the phrases of B prompts.
        masks: (B, 1, H, W) bool, True in the region; True everywhere for a whole image.
    """
    if grounding.grounds is None:
        return grounding
    whole = masks.flatten(1).all(dim=1).to(grounding.grounds)
    return replace(grounding, grounds=grounding.grounds * whole[:, None])


def _nothing_grounded(rows: int, width: int, device: torch.device) -> Grounding:
    """Return the grounding of ``rows`` prompts without objects."""
    mask = torch.zeros(rows, 1, dtype=torch.bool, device=device)
    return Grounding(torch.zeros(rows, 1, width, device=device), torch.zeros(rows, 1, 5, device=device), mask)


def phrase_slots(objects: Sequence[str], phrases: Sequence[str]) -> list[int]:
    """Match each object of a layout to a phrase of the prompt: the first with its text that is not taken yet.

    Args:
        objects: the layout's objects; case and a leading article are ignored.
        phrases: the prompt's phrases.

    Returns:
        The index of each object's phrase.

    Raises:
        ValueError: naming an object that is not among the phrases.

    Example:
        >>> phrase_slots(["Red star", "a cat"], ["a cat", "a red star", "a cat"])
        [1, 0]
    """
    free = [bare_phrase(phrase) for phrase in phrases]
    slots = []
    for name in objects:
        if bare_phrase(name) not in free:
            known = ", ".join(map(repr, phrases)) or "none"
            raise ValueError(f"the layout has the object {name!r}; the prompt's phrases are {known}")
        slots.append(free.index(bare_phrase(name)))
        free[slots[-1]] = ""
    return slots
