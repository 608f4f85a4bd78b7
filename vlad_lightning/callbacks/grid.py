"""Figures of generated samples: a grid of images with captions, and a grid of layouts as boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon
from matplotlib.textpath import text_to_path
from torch import Tensor

from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.types import Layout

_INCHES = 1.4  # a picture's side on the page, with the gap beside it
_LINE = 0.13  # height of a caption's line, in inches
_FONT = FontProperties(size=7)  # of captions
_CAPTION = 72 * (_INCHES - 0.1)  # width of a caption's line, in points
_CHARACTERS = 60  # no line of that width has more


def sample_grid(images: Tensor, captions: Sequence[str], columns: int = 8) -> Figure:
    """Plot images in rows, a caption under each.

    Args:
        images: (B, 3, H, W) float in [-1, 1].
        captions: B texts, such as the prompts; lines that are wider than a picture are broken.
        columns: pictures per row.
    """
    figure, axes = _grid(captions, columns)
    pixels = to_bytes(images.detach().float().cpu()).permute(0, 2, 3, 1).numpy()  # matplotlib would truncate floats
    for axis, image in zip(axes, pixels, strict=False):
        axis.imshow(image)  # smoothly where a pixel of it is no whole number of pixels of the page
    return figure


def layout_grid(layouts: Sequence[Layout], captions: Sequence[str], columns: int = 8) -> Figure:
    """Plot layouts as boxes with their words (blue) and objects (orange), a caption under each."""
    figure, axes = _grid(captions, columns)
    for axis, layout in zip(axes, layouts, strict=False):
        axis.set(xlim=(0, 1), ylim=(1, 0), aspect="equal")
        _outline(axis, Layout(layout.objects, layout.object_boxes), "tab:orange", 4)
        _outline(axis, layout, "tab:blue", 6)
    return figure


def _outline(axis: Axes, layout: Layout, colour: str, fontsize: int) -> None:
    """Draw the boxes with their words."""
    for word, quad in zip(layout.words, layout.quads().numpy(), strict=True):
        axis.add_patch(Polygon(quad, closed=True, fill=False, edgecolor=colour, linewidth=1))
        x, y = quad.mean(axis=0)
        axis.text(x, y, word, fontsize=fontsize, ha="center", va="center", clip_on=True, parse_math=False)


def _grid(captions: Sequence[str], columns: int) -> tuple[Figure, list[Axes]]:
    """Lay out an axis for each caption, with the caption beneath; a row is as high as its longest caption needs."""
    columns = max(1, min(columns, len(captions)))
    wrapped = ["\n".join(map(_wrapped, caption.split("\n"))) for caption in captions]
    rows = [wrapped[start : start + columns] for start in range(0, len(wrapped), columns)]
    height = sum(_INCHES + 0.25 + _LINE * max(caption.count("\n") for caption in row) for row in rows)
    figure = Figure(figsize=(columns * _INCHES, height), dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.set(xticks=[], yticks=[], visible=False)
    for axis, caption in zip(axes, wrapped, strict=False):
        axis.set_visible(True)
        axis.set_xlabel(caption, fontproperties=_FONT, parse_math=False)
    figure.draw_without_rendering()  # the first drawing of a layout cuts lines off a long caption in the last row
    return figure, axes


def _wrapped(text: str) -> str:
    """Break a line of text so that it is no wider than the picture above it."""
    for characters in range(_CHARACTERS, 0, -1):
        lines = textwrap.wrap(text, characters)
        if all(text_to_path.get_text_width_height_descent(line, _FONT, ismath=False)[0] <= _CAPTION for line in lines):
            break
    return "\n".join(lines)
