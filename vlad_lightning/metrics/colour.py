"""Whether the background has the colour that the prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.metrics.bootstrap import mean_figure
from vlad_lightning.metrics.per_image import PerImageMetric
from vlad_lightning.models.colours import PALETTE, nearest_colours
from vlad_lightning.types import Figure

_COLOURS = tuple(PALETTE)
_REQUEST = re.compile(rf"\b({'|'.join(_COLOURS)})(?:\s+[\w-]+)?\s+(?:background|bg)\b", re.IGNORECASE)
_RING = 12  # the border is a twelfth of the side wide: objects and words seldom reach it


def requested_background(prompt: str) -> str | None:
    """The colour of :data:`~vlad_lightning.models.colours.PALETTE` that a prompt wants behind everything, if any.

    It is the one before ``background`` or ``bg``, with one word between them at most.

    Example:
        >>> requested_background('a red circle on a dotted dark green gradient background with "HI"')
        'green'
    """
    found = _REQUEST.search(prompt)
    return found[1].lower() if found else None


def border_colours(images: Tensor) -> list[str]:
    """The palette colour that most pixels along the border of each image are nearest to.

    Args:
        images: (B, 3, H, W) float in [-1, 1].

    Returns:
        B names; of equally common ones the first in the palette.

    Raises:
        ValueError: if ``images`` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images has shape {tuple(images.shape)}; (B, 3, H, W) is needed")
    height, width = images.shape[2:]
    ring = np.ones((height, width), dtype=bool)
    down, across = max(1, height // _RING), max(1, width // _RING)
    ring[down : height - down, across : width - across] = False
    pixels = ((images.detach().float().cpu() + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    nearest = (nearest_colours(image[ring]) for image in pixels)
    return [_COLOURS[np.bincount(one, minlength=len(_COLOURS)).argmax()] for one in nearest]


class BackgroundColour(PerImageMetric):
    """``background_colour``: share of the pictures whose border has the colour that the prompt wants.

    Prompts that want none are left out.
    """

    columns = ("right",)

    def update(self, images: Tensor, prompts: Sequence[str]) -> None:
        """Look at B pictures.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            prompts: B prompts.

        Raises:
            ValueError: if their numbers differ.
        """
        if len(images) != len(prompts):
            raise ValueError(f"prompts has {len(prompts)} entries; {len(images)} images need as many")
        wanted = [requested_background(prompt) for prompt in prompts]
        pairs = zip(wanted, border_colours(images), strict=True)
        self.append(torch.tensor([[float(want == found)] for want, found in pairs if want]).view(-1, 1))

    def compute(self) -> dict[str, Figure]:
        """The figure by name."""
        right = self.table()["right"]
        return {"background_colour": mean_figure(right, self.generator())} if len(right) else {}
