"""P(I | Z_T) of Eq. 1: prompts and layouts in, images out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from vlad_lightning.diffusion.objective import Schedule, check_schedule
from vlad_lightning.diffusion.sampler import Denoiser
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.layout.prompt_parser import bare_phrase
from vlad_lightning.limits import MOST_PHRASES, MOST_SIDE, check_whole
from vlad_lightning.models.codec import KLCodec, LinearCodec, SpaceToDepthCodec
from vlad_lightning.models.painter.phrase_map import Grounding
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Conditioning, Layout, Painting, Region


def _check_channels(vfe: VFE, codec: SpaceToDepthCodec | KLCodec) -> None:
    """Refuse a fusion that does not take what the codec and the phrase map give."""
    fusion, mapped = vfe.fusion.config, vfe.phrase_map.out_channels if vfe.phrase_map else 0
    if fusion.latent_channels != codec.latent_channels:
        raise ValueError(f"fusion.latent_channels is {fusion.latent_channels}; the codec gives {codec.latent_channels}")
    layout = codec.latent_channels + mapped
    if fusion.layout_channels != layout and (mapped or fusion.layout_channels != 0):
        raise ValueError(
            f"fusion.layout_channels is {fusion.layout_channels}; {layout} are needed: {codec.latent_channels} of the "
            f"codec and {mapped} of the phrase map (0 is no hierarchical guidance, without a phrase map)"
        )


class Painter(nn.Module):
    """The VFE with all it needs to turn prompts and layouts into images.

    Args:
        prompt_encoder: gives t.
        vfe: denoises image latents; without hierarchical guidance its fusion has no ``layout_channels``.
        codec: frozen; images and glyph maps to latents and back.
        schedule: the forward process of the latents; its class decides between DDPM and flow matching.
        image_size: H = W in pixels.
        rasterizer: draws layouts.

    Raises:
        ValueError: where widths or channels differ, the schedule cannot be trained on, or ``image_size`` is out of its
            range.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        vfe: VFE,
        codec: SpaceToDepthCodec | LinearCodec | KLCodec,
        schedule: Schedule,
        image_size: int = 64,
        rasterizer: Rasterizer = Rasterizer(),
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        check_whole("image_size", image_size, 1, MOST_SIDE)
        fusion = vfe.fusion.config
        if fusion.text_width != prompt_encoder.width:
            raise ValueError(f"fusion.text_width is {fusion.text_width}; the encoder's width is {prompt_encoder.width}")
        _check_channels(vfe, codec)
        if vfe.backbone.added_width not in (None, prompt_encoder.text_encoder.added_width):
            raise ValueError(
                f"the unet adds a text embedding of width {vfe.backbone.added_width}; the text encoder gives "
                f"{prompt_encoder.text_encoder.added_width} (SDXL needs a DualTower)"
            )
        if vfe.region is not None and vfe.region.config.latent_channels != codec.latent_channels:
            raise ValueError(
                f"region has latent_channels={vfe.region.config.latent_channels}; the codec gives "
                f"{codec.latent_channels}"
            )
        self.prompt_encoder = prompt_encoder
        self.vfe = vfe
        self.codec = codec.requires_grad_(False).eval()
        self.schedule = schedule
        self.image_size = image_size
        self.rasterizer = rasterizer

    def check(self, sampler: ImageSampler) -> None:
        """Refuse a sampler that does not fit the schedule or the network, before any work is done.

        Raises:
            ValueError: naming the setting, also where it is one of layouts and the painter has no latent of them.
        """
        sampler.check(self.schedule)
        for name, idle in (("layout_scale", 1.0), ("augmentation", 0.0)):
            if not self.hierarchical and getattr(sampler, name) != idle:
                raise ValueError(
                    f"{name} is {getattr(sampler, name)}; it must be {idle}: this painter has no hierarchical guidance"
                )
        self.vfe.backbone.check(sampler.cache_interval, sampler.fuse_qkv)

    @property
    def hierarchical(self) -> bool:
        """Whether the layout's latent guides the painter."""
        return self.vfe.fusion.config.layout_channels > 0

    def encode_layout(
        self,
        glyphs: Tensor,
        grounding: Grounding | None = None,
        scale: float = 0.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor | None:
        """z_t = g + s * noise (Eq. 6), g the glyph map's latent and, beside it, the map of the grounded phrases.

        Args:
            glyphs: (B, 3, H, W) float in [-1, 1], a drawn layout.
            grounding: the objects' phrases and boxes; None leaves their map empty.
            scale: s.
            generators: B of them, of the noise; only needed where s > 0.

        Returns:
            (B, C, h, w) float, C the fusion's ``layout_channels``; None without hierarchical guidance.
        """
        if not self.hierarchical:
            return None
        latent = self.codec.encode_images(glyphs)
        if self.vfe.phrase_map is not None:
            latent = torch.cat([latent, self._phrases_drawn(grounding, latent)], dim=1)
        if scale == 0:
            return latent
        given = None if generators is None else list(generators)
        return latent + scale * randn_tensor(latent.shape, generator=given, device=latent.device, dtype=latent.dtype)

    def _phrases_drawn(self, grounding: Grounding | None, latent: Tensor) -> Tensor:
        """The phrase map at the size of a latent (B, C_z, h, w); empty without grounded phrases."""
        size = (latent.shape[-2], latent.shape[-1])
        if grounding is None or self.vfe.phrase_map is None:
            return latent.new_zeros(len(latent), self.vfe.fusion.config.layout_channels - latent.shape[1], *size)
        return self.vfe.phrase_map(grounding, size).to(latent)

    def check_objects(self, prompt: str, layout: Layout) -> None:
        """Refuse a layout that someone gave, whose objects cannot be painted.

        Raises:
            ValueError: naming an object that the prompt does not have, or for objects and a painter without their map.
        """
        if len(layout.objects) > MOST_PHRASES:
            raise ValueError(f"the layout has {len(layout.objects):,} objects; at most {MOST_PHRASES:,} are painted")
        if layout.objects and self.vfe.phrase_map is None:
            things = ", ".join(map(repr, layout.objects))
            raise ValueError(f"the layout has the objects {things}; this painter has no phrase map, so it takes none")
        phrase_slots(layout.objects, self._phrases(prompt))

    def _phrases(self, prompt: str) -> list[str]:
        """The phrases of a prompt that may have a box."""
        text = self.prompt_encoder.text_encoder
        return [phrase.text for phrase in text.decompose(prompt).objects[: text.max_objects]]

    def ground(self, prompts: Sequence[str], layouts: Sequence[Layout], told: Conditioning) -> Grounding:
        """Join the boxes of the layouts' objects with the phrases of their prompts.

        Args:
            prompts: B prompts.
            layouts: B layouts.
            told: what the encoder says of the prompts.

        Raises:
            ValueError: naming an object that its prompt does not have.
        """
        text = self.prompt_encoder.text_encoder
        boxes = torch.zeros(len(prompts), text.max_objects, 5)
        mask = torch.zeros(len(prompts), text.max_objects, dtype=torch.bool)
        for row, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
            slots = phrase_slots(layout.objects, self._phrases(prompt))
            boxes[row, slots] = layout.object_boxes
            mask[row, slots] = True
        device = told.phrases.device
        return Grounding(told.objects, boxes.to(device), mask.to(device))

    @property
    def inpaints(self) -> bool:
        """Whether it can paint a region of a given picture."""
        return self.vfe.region is not None

    def encode_region(self, region: Region) -> Tensor | None:
        """What is known, as the fusion reads it: the mask and the latent of the picture without the region.

        Args:
            region: B pictures of the painter's size; one whose whole frame is the region is painted from nothing.

        Returns:
            (B, 1 + C_z, h, w) float; None for a painter without inpainting.
        """
        if not self.inpaints:
            return None
        known = self.codec.encode_images(region.images.masked_fill(region.masks, 0))
        # a latent's place belongs to the region if one of its pixels does
        mask = F.adaptive_max_pool2d(region.masks.to(known), known.shape[-2:])
        return torch.cat([mask, known], dim=1)

    def untold(self, size: int) -> Conditioning:
        """What the painter is told where there is no text, ``size`` times: the empty prompt.

        SDXL was trained with zeros in its place (``force_zeros_for_empty_prompt``): where the network takes a text
        embedding, that and the token states are zero. The pooled t, which only the fusion reads, stays the prompt's.
        """
        empty = self.prompt_encoder.empty()
        if self.vfe.backbone.added_width is not None and empty.text_embeds is not None:
            zeros = torch.zeros_like(empty.tokens), torch.zeros_like(empty.text_embeds)
            empty = replace(empty, tokens=zeros[0], text_embeds=zeros[1])
        return empty.expand(size)

    def draw_glyphs(self, layouts: Sequence[Layout]) -> Tensor:
        """(B, 1, H, W) uint8 on the CPU: the layouts, white on black."""
        size = (self.image_size, self.image_size)
        return torch.stack([self.rasterizer(layout, size) for layout in layouts])

    def paint(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        sampler: ImageSampler,
        generators: Sequence[torch.Generator],
        progress: Callable[[Tensor], Iterable[Tensor]] = iter,
        region: Region | None = None,
    ) -> Painting:
        """Paint ``B`` prompts with their layouts.

        Args:
            prompts: B prompts.
            layouts: B layouts.
            sampler: steps and scales.
            generators: B generators, all the randomness; an image depends on its own alone.
            progress: wraps the timesteps, as tqdm does.
            region: B pictures of which only a region is painted: every other pixel stays as it is, and what lies
                outside the region of a layout is not drawn. None paints whole images.

        Raises:
            ValueError: for a ``region`` and a painter without inpainting.
        """
        if region is not None and not self.inpaints:
            raise ValueError("region is given, but this painter has none in its vfe: it was not trained for inpainting")
        weight = self.vfe.fusion.weight
        glyphs = glyph_images(self.draw_glyphs(layouts).to(weight.device))
        if region is not None:
            glyphs = glyphs.masked_fill(~region.masks.to(weight.device), -1)
        told = self.prompt_encoder(prompts)
        grounding = self.ground(prompts, layouts, told) if self.vfe.phrase_map is not None else None
        z = self.encode_layout(glyphs.to(weight), grounding, sampler.augmentation, generators)
        latent = self.codec.encode_images(glyphs[:1].to(weight)) if z is None else z  # for its shape
        shape = (len(prompts), self.codec.latent_channels, *latent.shape[2:])
        noise = randn_tensor(shape, generator=list(generators), device=weight.device)
        denoiser = self._guided(told, z, sampler, self.masked_latents(region, len(prompts)))
        with self.vfe.backbone.sampling(sampler.cache_interval, sampler.fuse_qkv):
            latents = sampler.draw(denoiser, noise, self.schedule, generators, progress)
        images = self.codec.decode_latents(latents.to(weight)).float().clamp(-1, 1)
        if region is not None:
            images = torch.where(region.masks.to(images.device), images, region.images.to(images))
        return Painting(images, tuple(layouts), glyphs, tuple(prompts))

    def masked_latents(self, region: Region | None, size: int) -> Tensor | None:
        """What a painter with inpainting reads of ``size`` pictures, see :meth:`encode_region`; None for another one.

        Args:
            region: the pictures; None paints all of them from nothing.
            size: B.
        """
        if region is None:
            frame = (self.image_size, self.image_size)
            region = Region(torch.zeros(size, 3, *frame), torch.ones(size, 1, *frame, dtype=torch.bool))
        weight = self.vfe.fusion.weight
        return self.encode_region(Region(region.images.to(weight), region.masks.to(weight.device)))

    def _guided(
        self, told: Conditioning, z: Tensor | None, sampler: ImageSampler, known: Tensor | None = None
    ) -> Denoiser:
        """The denoiser under hierarchical guidance: every branch in one batch."""
        guidance = sampler.guidance
        branches = guidance.branches
        untold = self.untold(len(told))
        text = Conditioning.cat([told if b.text else untold for b in branches])
        layout = None
        if z is not None:
            # of the whole batch, not once: an autoencoder's rounding depends on how many it encodes
            blank = z.new_full((len(z), 3, self.image_size, self.image_size), -1)
            layout = torch.cat([z if b.layout else cast(Tensor, self.encode_layout(blank)) for b in branches])
        given = None if known is None else known.repeat(len(branches), 1, 1, 1)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            predicted = self.vfe(
                x.to(told.pooled).repeat(len(branches), 1, 1, 1), t.repeat(len(branches)), layout, text, given
            )
            return guidance.combine(predicted.float().chunk(len(branches)))

        return denoise


def phrase_slots(objects: Sequence[str], phrases: Sequence[str]) -> list[int]:
    """Which phrase of a prompt each object of a layout is: the first of that text which no other object has taken.

    Args:
        objects: of the layout; compared without regard to case and to an article before them.
        phrases: of the prompt.

    Raises:
        ValueError: naming an object that is not among the phrases.

    Example:
        >>> phrase_slots(["Red star", "a cat"], ["a cat", "a red star", "a cat"])
        [1, 0]
    """
    free = [bare_phrase(phrase) for phrase in phrases]
    slots = []
    for thing in objects:
        if bare_phrase(thing) not in free:
            known = ", ".join(map(repr, phrases)) or "none"
            raise ValueError(f"the layout has the object {thing!r}; the prompt's phrases are {known}")
        slots.append(free.index(bare_phrase(thing)))
        free[slots[-1]] = ""
    return slots
