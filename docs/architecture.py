"""Draws docs/images/architecture.png: ``python docs/architecture.py``.

The demo generated the poster; the phrase map is the part of it that is a guess of the image, as its pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

IMAGES = Path(__file__).parent / "images"
WORDS = (("OPEN", 0.178, 0.755, 0.566, 0.168), ("LATE", 0.32, 0.491, 0.567, 0.175))  # left, bottom, width, height
THINGS = ((0.112, 0.13, 0.284, 0.263), (0.637, 0.137, 0.244, 0.247), (0.0, 0.0, 1.0, 1.0))  # star, ring, background
HEIGHT = 7.5
UPPER, LOWER = 5.7, 4.42  # bottoms of the tiles in the two rows of the layout generator
INK, GREY = "#1f2933", "#66727f"
LAYOUT, GENERATE, ALIGN = ("#d9ecf7", "#2b7bb0"), ("#fbe6d3", "#c8691b"), ("#e2f0dc", "#4c8c3a")  # fill, edge

Colours = tuple[str, str]


def main() -> None:
    """Draw and write the picture."""
    figure = Figure(figsize=(13.2, HEIGHT), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 13.2), ylim=(0, HEIGHT))
    axis.axis("off")
    _lanes(axis)
    _prompt(axis)
    _layout_lane(axis)
    _phrase_map(axis)
    _image_generator_lane(axis)
    _alignment(axis)
    figure.savefig(IMAGES / "architecture.png", dpi=130, metadata={"Software": None})


def _lanes(axis: Axes) -> None:
    for bottom, height, colours, title in (
        (4.05, 3.3, LAYOUT, "Layout generator (stage 1): what goes where"),
        (0.15, 3.25, GENERATE, "Image generator (stage 2)"),
    ):
        patch = FancyBboxPatch((2.5, bottom), 10.55, height, boxstyle="round,pad=0,rounding_size=0.12")
        patch.set(facecolor=colours[0], alpha=0.38, edgecolor="none")
        axis.add_patch(patch)
        axis.text(2.65, bottom + height - 0.24, title, color=colours[1], fontsize=10.5, weight="bold", va="center")


def _prompt(axis: Axes) -> None:
    text = (
        "a poster with a red star at\nthe bottom left and a green\nring at the bottom right\non a yellow background,\n"
        'that says "OPEN LATE"\nat the top'
    )
    _box(axis, 0.15, 2.75, 2.0, 1.7, "", ("white", GREY))
    axis.text(1.15, 4.27, "prompt", ha="center", va="center", fontsize=9, color=GREY)
    axis.text(1.15, 3.45, text, ha="center", va="center", fontsize=8.4, color=INK, style="italic", linespacing=1.35)
    _arrow(axis, (1.6, 4.45), (2.75, 6.2), bend="angle3,angleA=90,angleB=0")
    _arrow(axis, (1.6, 2.75), (2.75, 2.1), bend="angle3,angleA=90,angleB=0")


def _layout_lane(axis: Axes) -> None:
    _box(axis, 2.75, 5.65, 1.9, 1.1, "Prompt encoder\n\ntext tower, then\nCCM (Eq. 2)", LAYOUT)
    _box(axis, 5.6, 5.65, 1.7, 1.1, "TLG (Eq. 6)\n\ndiffusion over one\nbox per phrase", LAYOUT)
    _arrow(axis, (4.65, 6.2), (5.6, 6.2), "composed\nphrases")
    _tile(axis, 7.95, UPPER, "boxes", "#f7f9fb")
    for _, x, y, width, height in WORDS:
        axis.add_patch(Rectangle((7.95 + x, UPPER + y), width, height, fill=False, edgecolor=LAYOUT[1], linewidth=1.5))
    for x, y, width, height in THINGS:
        axis.add_patch(
            Rectangle((7.95 + x, UPPER + y), width, height, fill=False, edgecolor=GENERATE[1], linewidth=1.5)
        )
    _arrow(axis, (7.3, 6.2), (7.95, 6.2))
    _tile(axis, 9.75, UPPER, "glyph map", "black")
    for word, x, y, width, height in WORDS:
        letters = TextPath((0, 0), word, prop=FontProperties(family="DejaVu Sans", weight="bold"))
        ink = letters.get_extents()  # stretched to the box, as the rasteriser does
        scaled = Affine2D().translate(-ink.x0, -ink.y0).scale(width / ink.width, height / ink.height)
        place = scaled.translate(9.75 + x, UPPER + y)
        axis.add_patch(PathPatch(place.transform_path(letters), facecolor="white", edgecolor="none"))
    _arrow(axis, (8.95, 6.2), (9.75, 6.2), "rasteriser")
    _box(axis, 11.35, 5.8, 1.45, 0.8, "Autoencoder:\nencoder (frozen)", LAYOUT)
    _arrow(axis, (10.75, 6.2), (11.35, 6.2))
    axis.plot([12.07, 12.07, 6.35], [5.8, 3.72, 3.72], color=INK, linewidth=1.3, solid_joinstyle="round")
    _arrow(axis, (6.35, 3.72), (6.35, 2.6))
    text = "$z_t$: latent of the glyph map, and beside it the phrase map"
    axis.text(9.2, 3.77, text, ha="center", va="bottom", fontsize=9.5, color=INK)


def _phrase_map(axis: Axes) -> None:
    """The objects' part of z_t: what the image generator's encoder says of each phrase, in its box."""
    _tile(axis, 9.75, LOWER, "phrase map (stage 2)", "#fffaf5", GENERATE[1])
    axis.imshow(imread(IMAGES / "phrase_map.png"), extent=(9.75, 10.75, LOWER, LOWER + 1.0), zorder=2)
    axis.plot([8.85, 8.85], [UPPER, 5.2], color=INK, linewidth=1.3)
    _arrow(axis, (8.85, 5.2), (9.75, 5.2))
    axis.plot([3.9, 3.9, 5.25, 5.25], [2.6, 2.95, 2.95, 4.8], color=INK, linewidth=1.3, solid_joinstyle="round")
    _arrow(axis, (5.25, 4.8), (9.75, 4.8))
    text = "composed phrases, each a learned stamp"
    axis.text(7.05, 4.86, text, ha="center", va="bottom", fontsize=8.8, color=INK)
    _arrow(axis, (10.75, 5.0), (12.07, 5.0), "objects")
    axis.set(xlim=(0, 13.2), ylim=(0, HEIGHT))


def _image_generator_lane(axis: Axes) -> None:
    _box(axis, 2.75, 1.5, 1.9, 1.1, "Prompt encoder\n\ntext tower with LoRA,\nthen CCM (Eq. 2)", GENERATE)
    _box(axis, 5.6, 1.5, 1.5, 1.1, "Fusion (Eq. 7)\n\n1x1 convolution\nof $x_t$, $z_t$ and $t$", GENERATE)
    _box(axis, 8.0, 1.5, 1.6, 1.1, "VFE (Eq. 5, 9)\n\nUNet, or a\ntransformer", GENERATE)
    _box(axis, 10.35, 1.65, 1.35, 0.8, "Autoencoder:\ndecoder (frozen)", GENERATE)
    _arrow(axis, (4.65, 2.05), (5.6, 2.05), "pooled $t$")
    _arrow(axis, (7.1, 2.05), (8.0, 2.05), "fused\nlatent")
    _arrow(axis, (9.6, 2.05), (10.35, 2.05), "$x_0$")
    _arrow(axis, (11.7, 2.05), (12.0, 2.05))
    axis.plot([4.4, 4.4, 8.8], [2.6, 2.82, 2.82], color=INK, linewidth=1.3, solid_joinstyle="round")
    _arrow(axis, (8.8, 2.82), (8.8, 2.6))
    axis.text(7.62, 2.88, "token states (cross-attention)", ha="center", va="bottom", fontsize=8.8, color=INK)
    axis.plot([8.8, 8.8, 6.6], [1.5, 1.0, 1.0], color=INK, linewidth=1.3, solid_joinstyle="round")
    _arrow(axis, (6.6, 1.0), (6.6, 1.5))
    axis.text(7.75, 0.93, "$x_{t-1}$, once per sampling step", ha="center", va="top", fontsize=9, color=INK)
    noise = np.random.default_rng(0).uniform(size=(20, 20, 3))
    axis.imshow(noise, extent=(5.55, 6.15, 0.3, 0.9), zorder=3, interpolation="nearest")
    axis.text(6.25, 0.42, "$x_T$: noise", ha="left", va="center", fontsize=9, color=INK)
    _arrow(axis, (5.85, 0.9), (5.85, 1.5))
    axis.imshow(imread(IMAGES / "poster.png"), extent=(12.0, 13.0, 1.55, 2.55), zorder=3)
    axis.text(12.5, 1.42, "image", ha="center", va="top", fontsize=9, color=INK)
    axis.set(xlim=(0, 13.2), ylim=(0, HEIGHT))


def _alignment(axis: Axes) -> None:
    _box(axis, 2.75, 0.3, 1.9, 0.62, "Vision tower (stage 0)\nof the training image", ALIGN)
    arrow = FancyArrowPatch((3.7, 0.92), (3.7, 1.5), arrowstyle="<|-|>", mutation_scale=12)
    arrow.set(color=ALIGN[1], linestyle=(0, (3, 2)), linewidth=1.5)
    axis.add_patch(arrow)
    axis.text(3.8, 1.2, "$L_{align}$ (Eq. 3)", ha="left", va="center", fontsize=9, color=ALIGN[1])
    text = "Stage 0 trains the\nprompt encoder; both\nencoders start from it."
    axis.text(1.15, 0.85, text, ha="center", va="center", fontsize=8.8, color=ALIGN[1], linespacing=1.3)
    loss = "training: $L = L_{align} + \\lambda\\, L_{diff}$ (Eq. 8)"
    axis.text(12.95, 0.42, loss, ha="right", va="center", fontsize=9, color=GENERATE[1])


def _box(axis: Axes, x: float, y: float, width: float, height: float, text: str, colours: Colours) -> None:
    patch = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", zorder=2)
    patch.set(facecolor=colours[0], edgecolor=colours[1], linewidth=1.4)
    axis.add_patch(patch)
    title, gap, rest = text.partition("\n\n")
    middle = x + width / 2
    if not gap:
        axis.text(middle, y + height / 2, text, ha="center", va="center", fontsize=9, color=INK, zorder=4)
        return
    axis.text(middle, y + height - 0.25, title, ha="center", va="center", fontsize=10, weight="bold", zorder=4)
    axis.text(middle, y + 0.4, rest, ha="center", va="center", fontsize=8.8, color=INK, linespacing=1.25, zorder=4)


def _tile(axis: Axes, x: float, y: float, title: str, colour: str, edge: str = LAYOUT[1]) -> None:
    axis.add_patch(Rectangle((x, y), 1.0, 1.0, facecolor=colour, edgecolor=edge, linewidth=1.0, zorder=1))
    axis.text(x + 0.5, y - 0.1, title, ha="center", va="top", fontsize=9, color=INK)


def _arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", bend: str = "arc3,rad=0"
) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=12, connectionstyle=bend, shrinkA=0, shrinkB=0, zorder=3
    )
    arrow.set(color=INK, linewidth=1.3)
    axis.add_patch(arrow)
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.07
        axis.text(*middle, text, ha="center", va="bottom", fontsize=8.6, color=INK, linespacing=1.2)


if __name__ == "__main__":
    main()
