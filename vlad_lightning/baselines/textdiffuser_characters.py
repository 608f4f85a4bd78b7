"""The segmentation that TextDiffuser's image generator reads: the character that each pixel of drawn words shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlad_lightning.data.mario import character_class
from vlad_lightning.layout.fonts import load_font
from vlad_lightning.layout.masks import box_coordinates
from vlad_lightning.types import Layout

_MEASURED = 64  # pixels: the font size at which characters are measured
_INK = 128  # a pixel of at least this level shows a letter


def character_maps(layouts: Sequence[Layout], glyphs: Tensor, font: str | None = None) -> Tensor:
    """Tell for each pixel of drawn layouts which character it shows.

    A word's box is divided among its characters as its font sets them, so only upright faces that read from left to
    right are told exactly. Where boxes overlap, a pixel belongs to the box that covers it most.

    Args:
        layouts: B layouts.
        glyphs: (B, 1, H, W) uint8, the layouts as a :class:`~vlad_lightning.layout.glyphs.Rasterizer` draws them.
        font: the rasterizer's font.

    Returns:
        (B, H, W) int64 on the device of ``glyphs``: 0 where there is no letter, else
        :func:`~vlad_lightning.data.mario.character_class`, which is 0 for characters that MARIO does not know.
    """
    height, width = glyphs.shape[-2:]
    if not any(layout.words for layout in layouts):
        return torch.zeros(len(glyphs), height, width, dtype=torch.int64, device=glyphs.device)
    boxes = pad_sequence([layout.boxes for layout in layouts], batch_first=True).to(glyphs.device)  # (B, N, 5)
    ends, classes = (x.to(glyphs.device) for x in _characters(layouts, font))  # (B, N, C) each
    across, _, cover = box_coordinates(boxes, (height, width))  # (B, N, H, W) each
    present = torch.tensor([[i < len(layout) for i in range(boxes.shape[1])] for layout in layouts])
    cover = cover * present.to(cover)[..., None, None]
    most, word = cover.max(dim=1)  # (B, H, W) each
    position = ((across + 1) / 2).flatten(2)  # (B, N, H W), 0 to 1 along the word
    index = torch.searchsorted(ends, position.contiguous()).clamp(max=ends.shape[-1] - 1)
    shown = classes.gather(2, index).unflatten(2, (height, width)).gather(1, word[:, None])[:, 0]
    return shown * ((most > 0) & (glyphs[:, 0] >= _INK))


def _characters(layouts: Sequence[Layout], font: str | None) -> tuple[Tensor, Tensor]:
    """Return where each character of each word ends, (B, N, C) float32 in [0, 1], and its class, (B, N, C) int64."""
    words = [list(zip(layout.words, layout.fonts or (None,) * len(layout), strict=True)) for layout in layouts]
    most = max(len(row) for row in words)
    cells = [[*(_spelling(word, own or font) for word, own in row), *[((), ())] * (most - len(row))] for row in words]
    longest = max(len(ends) for row in cells for ends, _ in row) or 1
    ends = [[[*end, *[1.0] * (longest - len(end))] for end, _ in row] for row in cells]
    # beyond a word's last end, rounding may leave a pixel: it belongs to the last character
    classes = [[[*kind, *(kind[-1:] or (0,)) * (longest - len(kind))] for _, kind in row] for row in cells]
    return torch.tensor(ends, dtype=torch.float32), torch.tensor(classes, dtype=torch.int64)


@lru_cache(maxsize=8192)
def _spelling(word: str, font: str | None) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return where each character ends, as a fraction of the word's ink, and each character's class."""
    text = " ".join(word.split())
    face = load_font(font, _MEASURED)
    left, _, right, _ = face.getbbox(text)
    width = max(right - left, 1e-6)
    ends = (min(max((face.getlength(text[: i + 1]) - left) / width, 0.0), 1.0) for i in range(len(text)))
    return tuple(ends), tuple(map(character_class, text))
