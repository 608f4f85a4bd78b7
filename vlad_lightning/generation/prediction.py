"""Generation of a batch of prompts: checks, layouts and masks that are derived, regions pasted into their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlad_lightning import limits
from vlad_lightning.data.prompt_request import Request
from vlad_lightning.files import told_at
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.system import SystemSampling, VLADSystem
from vlad_lightning.layout.masks import box_masks, grown
from vlad_lightning.layout.paragraph import paragraph
from vlad_lightning.layout.pictures import bounding_quad, resized, resized_masks, stretched
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.unquoted_words import with_quotes
from vlad_lightning.types import GeneratedImages, Layout, MaskedImages, PromptBatch

Row = tuple[Layout | None, Tensor | None, Tensor | None]
"""Layout, image and mask of one prompt of a batch."""
ResolvedLayout = tuple[Layout | None, MaskedImages | None]
"""Layout, and picture at its original size with its region, of one prompt."""


def check_requests(requests: Sequence[Request], system: VLADSystem) -> None:
    """Refuse requests that cannot be generated, before any is generated and without reading the pixels.

    Raises:
        ValueError: naming the request, for more words than a layout holds, characters without a glyph, a layout for an
            image generator without hierarchical guidance, objects that cannot be generated, or words outside the
            picture.
    """
    for request in requests:
        with told_at(request.source):
            limits.check_prompts([request.prompt])
            _check(request, system.image_generator, system.layout_generator)


def check_masks(batch: PromptBatch, image_generator: ImageGenerator) -> None:
    """Refuse layouts whose words are all outside the given masks.

    Raises:
        ValueError: naming the prompt.
    """
    for source, (layout, _, mask) in zip(batch.sources or batch.keys, _rows(batch), strict=True):
        if layout is not None and mask is not None:
            with told_at(source):
                check_inside(image_generator, [layout], mask[None])


def generate_batch(
    batch: PromptBatch,
    system: VLADSystem,
    settings: SystemSampling,
    generators: Sequence[torch.Generator],
    controls: Controls = Controls(),
) -> GeneratedImages:
    """Generate a batch of prompts, with or without layouts, pictures and masks.

    A region is generated in a frame with the proportions of its picture, see
    :meth:`~vlad_lightning.generation.image_generator.ImageGenerator.frame_for`, unless ``controls.size`` says another.

    Args:
        batch: B prompts.
        system: generates them in one batch.
        settings: how layouts and images are sampled.
        generators: B generators, the only source of randomness.
        controls: what the caller adds.

    Returns:
        The images; where the frames differ, all are stretched to the image generator's square.

    Raises:
        ValueError: where a picture has neither mask nor layout, or the generated images hold NaN or infinite values.
    """
    image_generator = system.image_generator
    resolved = [
        resolve_layout(p, row, image_generator.rasterizer.font)
        for p, row in zip(batch.prompts, _rows(batch), strict=True)
    ]
    square = (image_generator.image_size, image_generator.image_size)
    parts: dict[tuple[int, int], list[int]] = {}
    for row, (_, masked) in enumerate(resolved):
        own = square if masked is None else image_generator.frame_for(masked.images.shape[-2], masked.images.shape[-1])
        parts.setdefault(controls.size or own, []).append(row)
    made = [
        _generated(
            [batch.prompts[row] for row in rows],
            [resolved[row] for row in rows],
            system,
            settings,
            [generators[row] for row in rows],
            controls.of_rows(rows, frame),
        )
        for frame, rows in parts.items()
    ]
    joined = made[0] if len(made) == 1 else _joined(made, list(parts.values()), square)
    return joined.named(batch.keys)


def _generated(
    prompts: Sequence[str],
    resolved: Sequence[ResolvedLayout],
    system: VLADSystem,
    settings: SystemSampling,
    generators: Sequence[torch.Generator],
    controls: Controls,
) -> GeneratedImages:
    """Generate prompts whose frame is ``controls.size``, and paste regions into their pictures."""
    assert controls.size is not None
    layouts, masked_per_prompt = [layout for layout, _ in resolved], [masked_images for _, masked_images in resolved]
    masked_images = _stacked(masked_per_prompt, controls.size)
    generated = system.generate(prompts, layouts, settings, generators, masked_images, controls)
    return (
        generated if masked_images is None else generated.within(_pictures(generated.images.cpu(), masked_per_prompt))
    )


def _joined(parts: Sequence[GeneratedImages], rows: Sequence[Sequence[int]], size: tuple[int, int]) -> GeneratedImages:
    """Join parts of a batch in the order of their rows, with images and glyphs stretched to one size."""
    order = [row for part in rows for row in part]
    places = sorted(range(len(order)), key=order.__getitem__)
    pictures = [picture for part in parts for picture in part.pictures or part.images.cpu()]
    layouts = [layout for part in parts for layout in part.layouts]
    prompts = [prompt for part in parts for prompt in part.prompts]
    return GeneratedImages(
        images=torch.cat([stretched(part.images, size) for part in parts])[places],
        layouts=tuple(layouts[place] for place in places),
        glyphs=torch.cat([stretched(part.glyphs, size) for part in parts])[places],
        prompts=tuple(prompts[place] for place in places),
        pictures=tuple(pictures[place] for place in places),
    )


def _rows(batch: PromptBatch) -> list[Row]:
    none = (None,) * len(batch)
    return list(zip(batch.layouts or none, batch.images or none, batch.masks or none, strict=True))


def _check(request: Request, image_generator: ImageGenerator, layouts: LayoutGenerator | None) -> None:
    layout = request.layout
    if layout is not None and not image_generator.hierarchical:
        raise ValueError(
            "a layout or template is given, but the image generator has no hierarchical guidance to follow it"
        )
    if layout is None:
        if layouts is not None and request.mask is None:  # in a mask, the words are set as lines
            layouts.check([request.prompt])
        if layouts is not None or request.mask is not None:
            image_generator.rasterizer.check(drawn_words(with_quotes(request.prompt)))
        return
    image_generator.rasterizer.check(layout.words, layout.fonts)
    image_generator.check_objects(request.prompt, layout)
    if request.size is not None and request.mask is None:
        check_inside(image_generator, [layout], masks_around([layout], request.size))


def resolve_layout(prompt: str, row: Row, font: str | None) -> ResolvedLayout:
    """Return the layout and the region of one prompt; a missing layout is set in the mask, a missing mask around words.

    Args:
        prompt: prompt with the words to draw in quotes.
        row: layout, picture (3, H, W) float in [-1, 1] and mask (1, H, W) bool, each possibly None.
        font: a font file that lines are measured with; None is the default font.

    Raises:
        ValueError: where a picture has neither mask nor layout, or has no mask and no word lies in its frame.
    """
    layout, image, mask = row
    if image is None:
        return layout, None
    if mask is not None:
        words = layout_in(mask[None], prompt, font) if layout is None else layout
        return words, MaskedImages(image[None], mask[None])
    if layout is None:
        raise ValueError("image is given without mask and layout; inpainting needs one of them")
    return layout, MaskedImages(image[None], masks_around([layout], (image.shape[-2], image.shape[-1])))


def _stacked(masked_per_prompt: Sequence[MaskedImages | None], size: tuple[int, int]) -> MaskedImages | None:
    """Stack all regions, resized to ``size``, the whole frame for a prompt without one; None if no prompt has one."""
    if all(masked_images is None for masked_images in masked_per_prompt):
        return None
    whole = MaskedImages(torch.zeros(1, 3, *size), torch.ones(1, 1, *size, dtype=torch.bool))
    return MaskedImages.cat(
        [whole if masked_images is None else resized(masked_images, size) for masked_images in masked_per_prompt]
    )


def _pictures(generated: Tensor, masked_per_prompt: Sequence[MaskedImages | None]) -> tuple[Tensor, ...]:
    """Return the final picture of each prompt: the generated region pasted into its picture, or the whole image."""
    return tuple(
        image if masked_images is None else put_back(image[None], masked_images)[0]
        for image, masked_images in zip(generated, masked_per_prompt, strict=True)
    )


def put_back(generated: Tensor, masked_images: MaskedImages) -> Tensor:
    """Paste the region from ``generated``, of any size, into each picture, (B, 3, H, W); other pixels are kept."""
    height, width = masked_images.images.shape[-2:]
    return torch.where(masked_images.masks, stretched(generated, (height, width)), masked_images.images)


def layout_in(masks: Tensor, prompt: str, font: str | None = None) -> Layout:
    """Set the prompt's words as lines in the box around a mask; without words, return an empty layout.

    Args:
        masks: (1, 1, H, W) bool, True in the region.
        prompt: prompt with the words to draw.
        font: a font file that the lines are measured with; None is the default font.
    """
    words, ratio = " ".join(drawn_words(with_quotes(prompt))), masks.shape[-1] / masks.shape[-2]
    return paragraph(words, bounding_quad(masks), wrap=True, font=font, ratio=ratio) if words else Layout.empty()


def masks_around(layouts: Sequence[Layout], size: tuple[int, int]) -> Tensor:
    """Return masks around each layout's words, (B, 1, H, W) bool, with the default margin of training.

    Raises:
        ValueError: where a layout has no word in the frame.
    """
    masks = []
    for layout in layouts:
        boxes = grown(layout.boxes, Masking().margin)
        mask = box_masks(boxes[None], torch.ones(1, len(layout), dtype=torch.bool), size)
        if not mask.any():
            raise ValueError("layouts has no word in the frame, so there is no region to generate; give a mask")
        masks.append(mask)
    return torch.cat(masks)


def check_inside(image_generator: ImageGenerator, layouts: Sequence[Layout], masks: Tensor) -> None:
    """Refuse layouts that have words, but none in the region.

    Args:
        image_generator: draws the layouts.
        layouts: B layouts.
        masks: (B, 1, H, W) bool of any size, True in the region.

    Raises:
        ValueError: naming the words.
    """
    frame = image_generator.frame_for(masks.shape[-2], masks.shape[-1])
    inside = image_generator.draw_glyphs(layouts, frame).masked_fill(~resized_masks(masks, frame), 0)
    for layout, glyphs in zip(layouts, inside, strict=True):
        if len(layout) and not glyphs.any():
            words = ", ".join(map(repr, layout.words))
            raise ValueError(f"layouts has {words} outside the mask, where nothing is drawn")
