"""Background colour: how often it is the one that the prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE, nearest_colours
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.metrics.per_image import PromptMetric, Share

_COLOURS = tuple(PALETTE)
_REQUEST = re.compile(rf"\b({'|'.join(_COLOURS)})(?:\s+[\w-]+)?\s+(?:background|bg)\b", re.IGNORECASE)
_RING = 12  # the border is 1/12 of the side wide: objects and words rarely reach it


def requested_background(prompt: str) -> str | None:
    """Return the background colour that a prompt asks for, from :data:`~vlad_lightning.layout.colours.PALETTE`, if any.

    It is the colour before ``background`` or ``bg``, with at most one word between them.

    Example:
        >>> requested_background('a red circle on a dotted dark green gradient background with "HI"')
        'green'
    """
    found = _REQUEST.search(prompt)
    return found[1].lower() if found else None


def border_colours(images: Tensor) -> list[str]:
    """Return the most frequent palette colour along the border of each image, by each pixel's nearest colour.

    Args:
        images: (B, 3, H, W) float in [-1, 1].

    Returns:
        B names; of equally frequent colours, the first in the palette.

    Raises:
        ValueError: if ``images`` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images has shape {tuple(images.shape)}; (B, 3, H, W) is needed")
    height, width = images.shape[2:]
    ring = np.ones((height, width), dtype=bool)
    down, across = max(1, height // _RING), max(1, width // _RING)
    ring[down : height - down, across : width - across] = False
    pixels = to_bytes(images.detach().float().cpu()).permute(0, 2, 3, 1).numpy()
    nearest = (nearest_colours(image[ring]) for image in pixels)
    return [_COLOURS[np.bincount(one, minlength=len(_COLOURS)).argmax()] for one in nearest]


class BackgroundColour(PromptMetric):
    """``background_colour``: share of the images whose border has the colour that the prompt asks for.

    Prompts that ask for none are left out.
    """

    columns = ("right", "asked")

    def compare(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return whether the border has the requested colour, and whether one is requested, (B, 2)."""
        wanted = [requested_background(prompt) for prompt in prompts]
        pairs = zip(wanted, border_colours(images), strict=True)
        return torch.tensor([[want == found, want is not None] for want, found in pairs], dtype=torch.float32)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the share of ``background_colour``."""
        return {"background_colour": Share(table["right"], table["asked"])}
