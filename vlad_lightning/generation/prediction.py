"""What stage 2 does with prompts: places their words, paints them, and puts what is painted back into pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from vlad_lightning import limits
from vlad_lightning.data.prompts import Request
from vlad_lightning.files import told_at
from vlad_lightning.generation.image_generator import Painter
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.system import SystemSampling, VLADSystem
from vlad_lightning.layout.masks import box_masks, grown
from vlad_lightning.layout.paragraph import paragraph
from vlad_lightning.layout.pictures import bounding_quad, resized, resized_masks, stretched
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.types import Layout, Painting, PromptBatch, Region

Row = tuple[Layout | None, Tensor | None, Tensor | None]
"""Layout, image and mask of one prompt of a batch."""
Placed = tuple[Layout | None, Region | None]
"""The same prompt's words, and its picture at its own size with the region."""


def check_requests(requests: Sequence[Request], system: VLADSystem) -> None:
    """Refuse requests that cannot be painted, before the first one is, by what can be told without its pixels.

    Raises:
        ValueError: naming the request, for more words than a layout holds, characters without a glyph, a picture for a
            painter without inpainting, a layout for one without hierarchical guidance, or words outside the picture.
    """
    for request in requests:
        with told_at(request.source):
            limits.check_prompts([request.prompt])
            _check(request, system.painter, system.layout_generator)


def check_masks(batch: PromptBatch, painter: Painter) -> None:
    """Refuse layouts with all their words outside the masks that were given.

    Raises:
        ValueError: naming the prompt.
    """
    for source, (layout, _, mask) in zip(batch.sources or batch.keys, _rows(batch), strict=True):
        if layout is not None and mask is not None:
            with told_at(source):
                check_inside(painter, [layout], resized_masks(mask[None], painter.image_size))


def paint_prompts(
    batch: PromptBatch,
    system: VLADSystem,
    settings: SystemSampling,
    generators: Sequence[torch.Generator],
    progress: Callable[[Tensor], Iterable[Tensor]] = iter,
) -> Painting:
    """Paint a batch of any kinds of prompts.

    Args:
        batch: the prompts.
        system: draws them, in one go.
        settings: how.
        generators: B generators, all the randomness.
        progress: wraps the timesteps of the images, as tqdm does.

    Raises:
        ValueError: where what was painted is no picture.
    """
    painter = system.painter
    placed = [place(p, row, painter.rasterizer.font) for p, row in zip(batch.prompts, _rows(batch), strict=True)]
    layouts = [layout for layout, _ in placed]
    regions = [region for _, region in placed]
    region = _stacked(regions, painter.image_size)
    painting = system.generate(batch.prompts, layouts, settings, generators, region, progress).named(batch.keys)
    return painting if region is None else painting.within(_pictures(painting.images.cpu(), regions))


def _rows(batch: PromptBatch) -> list[Row]:
    none = (None,) * len(batch)
    return list(zip(batch.layouts or none, batch.images or none, batch.masks or none, strict=True))


def _check(request: Request, painter: Painter, layouts: LayoutGenerator | None) -> None:
    layout = request.layout
    if request.image is not None and not painter.inpaints:
        raise ValueError(
            "image is given, but the painter has no region: it was not trained for inpainting, as stage2_inpaint.yaml "
            "does"
        )
    if layout is not None and not painter.hierarchical:
        raise ValueError("a layout or template is given, but the painter has no hierarchical guidance to follow it")
    if layout is None:
        if layouts is not None and request.mask is None:  # in a mask, the words are set as lines
            layouts.check([request.prompt])
        if layouts is not None or request.mask is not None:
            painter.rasterizer.check(drawn_words(request.prompt))
        return
    painter.rasterizer.check(layout.words, layout.fonts)
    painter.check_objects(request.prompt, layout)
    if request.size is not None and request.mask is None:
        check_inside(painter, [layout], resized_masks(masks_around([layout], request.size), painter.image_size))


def place(prompt: str, row: Row, font: str | None) -> Placed:
    """The words of one prompt and the region they are painted in: from a mask the words, or from words the mask.

    Args:
        prompt: words to draw stand in quotes.
        row: (3, H, W) float in [-1, 1] for a picture, (1, H, W) bool for its mask.
        font: a font file that lines are measured with; None is the default one.

    Raises:
        ValueError: where a picture has neither mask nor layout, or no word lies in its frame.
    """
    layout, image, mask = row
    if image is None:
        return layout, None
    if mask is not None:
        words = layout_in(mask[None], prompt, font) if layout is None else layout
        return words, Region(image[None], mask[None])
    if layout is None:
        raise ValueError("image is given without mask and layout; inpainting needs one of them")
    return layout, Region(image[None], masks_around([layout], (image.shape[-2], image.shape[-1])))


def _stacked(regions: Sequence[Region | None], side: int) -> Region | None:
    """All regions at the painter's size, the whole frame for a prompt without one; None where no prompt has one."""
    if all(region is None for region in regions):
        return None
    whole = Region(torch.zeros(1, 3, side, side), torch.ones(1, 1, side, side, dtype=torch.bool))
    return Region.cat([whole if region is None else resized(region, side) for region in regions])


def _pictures(painted: Tensor, regions: Sequence[Region | None]) -> tuple[Tensor, ...]:
    """What was painted of each picture, stretched back into it."""
    return tuple(
        image if region is None else put_back(image[None], region)[0]
        for image, region in zip(painted, regions, strict=True)
    )


def put_back(painted: Tensor, region: Region) -> Tensor:
    """(B, 3, H, W): the region of each picture from ``painted``, at any size, and every other pixel its own."""
    height, width = region.images.shape[-2:]
    return torch.where(region.masks, stretched(painted, (height, width)), region.images)


def layout_in(masks: Tensor, prompt: str, font: str | None = None) -> Layout:
    """The prompt's words as lines in the box around a mask; an empty layout where there are none.

    Args:
        masks: (1, 1, H, W) bool, True in the region.
        prompt: words to draw stand in quotes.
        font: a font file that the lines are measured with; None is the default one.
    """
    words = " ".join(drawn_words(prompt))
    return paragraph(words, bounding_quad(masks), wrap=True, font=font) if words else Layout.empty()


def masks_around(layouts: Sequence[Layout], size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) bool: each layout's boxes, with the margin that training gives them by default.

    Raises:
        ValueError: where a layout has no word in the frame.
    """
    masks = []
    for layout in layouts:
        boxes = grown(layout.boxes, Masking().margin)
        mask = box_masks(boxes[None], torch.ones(1, len(layout), dtype=torch.bool), size)
        if not mask.any():
            raise ValueError("layouts has no word in the frame, so there is no region to paint; give a mask")
        masks.append(mask)
    return torch.cat(masks)


def check_inside(painter: Painter, layouts: Sequence[Layout], masks: Tensor) -> None:
    """Refuse layouts that have words, but none in the region.

    Args:
        painter: draws them.
        layouts: B layouts.
        masks: (B, 1, H, W) bool at the painter's size, True in the region.

    Raises:
        ValueError: naming the words.
    """
    inside = painter.draw_glyphs(layouts).masked_fill(~masks, 0)
    for layout, glyphs in zip(layouts, inside, strict=True):
        if len(layout) and not glyphs.any():
            words = ", ".join(map(repr, layout.words))
            raise ValueError(f"layouts has {words} outside the mask, where nothing is drawn")
