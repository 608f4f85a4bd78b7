"""What inpainting needs beside the painter: where a region's words stand, and the region around given words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlad_lightning.models.masks import box_masks, grown
from vlad_lightning.models.paragraph import paragraph
from vlad_lightning.models.pictures import bounding_quad
from vlad_lightning.models.prompts import drawn_words
from vlad_lightning.modules.masking import Masking
from vlad_lightning.modules.painter import Painter
from vlad_lightning.types import Layout, Region


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


def check_inside(painter: Painter, layouts: Sequence[Layout], region: Region) -> None:
    """Refuse layouts that have words, but none in the region.

    Raises:
        ValueError: naming the words.
    """
    inside = painter.draw_glyphs(layouts).masked_fill(~region.masks, -1)
    for layout, glyphs in zip(layouts, inside, strict=True):
        if len(layout) and glyphs.max() <= -1:
            words = ", ".join(map(repr, layout.words))
            raise ValueError(f"layouts has {words} outside the mask, where nothing is drawn")
