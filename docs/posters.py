"""Draws docs/images/rich_posters.png and literal_posters.png: ``python docs/posters.py``; twelve posters of seed 0."""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.data.synthetic.scene import World

COLUMNS, ROWS, LETTERS = 4, 3, 36


def main() -> None:
    """Draw both pictures."""
    draw("rich")
    draw("literal")


def draw(world: World) -> None:
    """Draw the posters of a world, each with its caption under it."""
    source = SyntheticSource(COLUMNS * ROWS, size=128, seed=0, world=world)
    figure = Figure(figsize=(8.8, 8.4), dpi=100, layout="constrained")
    for index, axis in enumerate(figure.subplots(ROWS, COLUMNS).ravel()):
        sample = source.read(index)
        axis.imshow(sample.image, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(textwrap.fill(sample.caption, LETTERS), fontsize=7, parse_math=False)
    figure.savefig(Path(__file__).parent / "images" / f"{world}_posters.png")


if __name__ == "__main__":
    main()
