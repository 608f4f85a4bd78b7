"""Colour of the words: how often it is the one that the prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE, nearest_colours, rgb_named
from vlad_lightning.layout.lettering_requests import with_lettering
from vlad_lightning.layout.masks import box_masks
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.metrics.per_image import PerImageMetric, Share
from vlad_lightning.types import Layout

_COLOURS = tuple(PALETTE)
_PALETTE = torch.tensor(list(PALETTE.values()), dtype=torch.float32)
_INK = 0.0  # of glyphs in [-1, 1]: brighter pixels are inside a letter
_FAR = 0.8
_NEAR = 5  # pixels: the window around letters that counts as neither ink nor ground


def ink_colours(image: Tensor, glyphs: Tensor, layout: Layout) -> list[str]:
    """Return the palette colour of each word's letters.

    It is the colour that is most over-represented where the letters are, compared with the rest of the word's box: so
    letters need not be painted exactly as they are in the glyph map, and a ground of several colours does not matter.
    Of the letters, only the pixels far from the ground's main colour count: others are blends of the two at an edge.

    Args:
        image: (3, H, W) float in [-1, 1].
        glyphs: (1 or 3, H, W) float in [-1, 1]: the layout as drawn by the rasteriser.
        layout: the words and their boxes.
    """
    pixels = to_bytes(image.detach().float().cpu()[None])[0].permute(1, 2, 0).float()  # (H, W, 3)
    nearest = torch.from_numpy(nearest_colours(pixels.numpy()))  # (H, W)
    level = glyphs.detach().float().cpu()[:1]
    ink = level[0] > _INK
    ground = F.max_pool2d(level[None], _NEAR, stride=1, padding=_NEAR // 2)[0, 0] <= _INK
    size = (image.shape[-2], image.shape[-1])
    inside = box_masks(layout.boxes.float()[:, None], torch.ones(len(layout), 1, dtype=torch.bool), size)[:, 0]
    found = []
    for box in inside:
        around = _shares(nearest, box & ground)
        far = box & ink & _far_from(pixels, _PALETTE[int(around.argmax())], box & ink)
        found.append(_COLOURS[int((_shares(nearest, far) - around).argmax())])
    return found


def _far_from(pixels: Tensor, colour: Tensor, where: Tensor) -> Tensor:
    """Return which pixels are nearly as far from a colour as the furthest of ``where`` are, (H, W) bool."""
    distance = (pixels - colour).norm(dim=-1)
    if not where.any():
        return where
    return distance >= _FAR * distance[where].quantile(0.9)


def _shares(nearest: Tensor, where: Tensor) -> Tensor:
    """Return the share of each palette colour among the pixels, zeros if there are none."""
    counts = torch.bincount(nearest[where], minlength=len(_COLOURS)).float()
    return counts / max(1, int(where.sum()))


def requested_colours(prompt: str, layout: Layout) -> list[str | None]:
    """Return the palette colour that the prompt asks for, for each word of a layout; None for the others."""
    asked = with_lettering(Layout(layout.words, layout.boxes), prompt).colours or (None,) * len(layout)
    return [_in_palette(colour) for colour in asked]


def _in_palette(colour: str | None) -> str | None:
    rgb = rgb_named(colour) if colour else None
    return next((name for name, own in PALETTE.items() if own == rgb), None)


class WordColour(PerImageMetric):
    """``word_colour``: share of the words with a requested colour whose letters have it.

    Words without a box are left out, and so are colours outside the palette.
    """

    columns = ("right", "asked")

    def update(
        self,
        images: Tensor,
        glyphs: Tensor,
        layouts: Sequence[Layout],
        prompts: Sequence[str],
        keys: Sequence[str] = (),
    ) -> None:
        """Measure B images.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            glyphs: (B, 1 or 3, H, W) float in [-1, 1]: the layouts as drawn by the rasteriser.
            layouts: B layouts.
            prompts: B prompts.
            keys: B names, or none.

        Raises:
            ValueError: if their numbers differ.
        """
        for name, entries in (("glyphs", glyphs), ("layouts", layouts), ("prompts", prompts)):
            if len(entries) != len(images):
                raise ValueError(f"{name} has {len(entries)} entries; {len(images)} images need as many")
        rows = [self._row(*four) for four in zip(images, glyphs, layouts, prompts, strict=True)]
        if rows:
            self.append(torch.tensor(rows), keys)

    def _row(self, image: Tensor, glyphs: Tensor, layout: Layout, prompt: str) -> tuple[float, float]:
        asked = requested_colours(prompt, layout)
        if not any(asked):
            return 0.0, 0.0
        pairs = [(want, found) for want, found in zip(asked, ink_colours(image, glyphs, layout), strict=True) if want]
        return float(sum(want == found for want, found in pairs)), float(len(pairs))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the share of ``word_colour``."""
        return {"word_colour": Share(table["right"], table["asked"])}
