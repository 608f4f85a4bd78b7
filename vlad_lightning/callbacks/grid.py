"""Figures of generated samples: a grid of images with captions, and a grid of layouts as boxes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.types import Layout

_INCHES = 1.4  # a picture's side on the page
_LINE = 0.13  # height of a caption's line, in inches


def sample_grid(images: Tensor, captions: Sequence[str], columns: int = 8) -> Figure:
    """Plot images in rows, a caption under each.

    Args:
        images: (B, 3, H, W) float in [-1, 1].
        captions: B texts, such as the requested words; of one line or several.
        columns: pictures per row.
    """
    figure, axes = _grid(len(images), columns, max((caption.count("\n") for caption in captions), default=0))
    pixels = to_bytes(images.detach().float().cpu()).permute(0, 2, 3, 1).numpy()  # matplotlib would truncate floats
    for axis, image, caption in zip(axes, pixels, captions, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_xlabel(caption, fontsize=7, parse_math=False)
    return figure


def layout_grid(layouts: Sequence[Layout], captions: Sequence[str], columns: int = 8) -> Figure:
    """Plot layouts as boxes with their words (blue) and objects (orange), a caption under each."""
    figure, axes = _grid(len(layouts), columns, max((caption.count("\n") for caption in captions), default=0))
    for axis, layout, caption in zip(axes, layouts, captions, strict=False):
        axis.set(xlim=(0, 1), ylim=(1, 0), aspect="equal")
        axis.set_xlabel(caption, fontsize=7, parse_math=False)
        _outline(axis, Layout(layout.objects, layout.object_boxes), "tab:orange", 4)
        _outline(axis, layout, "tab:blue", 6)
    return figure


def _outline(axis: Axes, layout: Layout, colour: str, fontsize: int) -> None:
    """Draw the boxes with their words."""
    for word, quad in zip(layout.words, layout.quads().numpy(), strict=True):
        axis.add_patch(Polygon(quad, closed=True, fill=False, edgecolor=colour, linewidth=1))
        x, y = quad.mean(axis=0)
        axis.text(x, y, word, fontsize=fontsize, ha="center", va="center", clip_on=True, parse_math=False)


def _grid(size: int, columns: int, further_lines: int = 0) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, size))
    rows = -(-size // columns)
    height = _INCHES + 0.25 + _LINE * further_lines
    figure = Figure(figsize=(columns * _INCHES, rows * height), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for i, axis in enumerate(axes):
        axis.set(xticks=[], yticks=[], visible=i < size)
    return figure, axes
