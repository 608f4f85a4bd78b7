"""The colours of the words, drawn into their boxes: the part of z_t that says in which colour a word is painted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlad_lightning.layout.colours import rgb_named
from vlad_lightning.layout.masks import box_coordinates
from vlad_lightning.types import Layout

CHANNELS = 4  # red, green, blue, and where a colour is given


def draw_word_colours(layouts: Sequence[Layout], size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Fill the boxes of the words that have a colour with it; the letters themselves are in the glyph map.

    Args:
        layouts: B layouts; a colour that has no known name is left out.
        size: h and w of the map.
        device: where the map is drawn.

    Returns:
        (B, 4, h, w) float32: red, green and blue in [-1, 1] and a 1 where a colour is given, all 0 elsewhere; less at
        the edges of a box. Of boxes that overlap, the later word is on top.
    """
    canvas = torch.zeros(len(layouts), CHANNELS, *size)
    for row, layout in enumerate(layouts):
        colours = [rgb_named(colour) if colour else None for colour in layout.colours]
        known = [i for i, colour in enumerate(colours) if colour is not None]
        if not known:
            continue
        cover = box_coordinates(layout.boxes[known].float()[None], size)[2][0]  # (N, h, w)
        for i, share in zip(known, cover, strict=True):
            fill = torch.tensor([*(v / 127.5 - 1 for v in colours[i] or ()), 1.0])
            canvas[row] = canvas[row].lerp(fill[:, None, None], share)
    return canvas.to(device)
