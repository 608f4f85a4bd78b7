"""What a pipeline draws at sizes that it was not trained on: ``python benchmarks/sizes.py [PIPELINE]``.

The prompts are those of posters of the rich world with words that training posters may have, the layouts the
pipeline's own. For each height and width are printed, with 95 % intervals over images, the share of words that are
read and, for squares, the shares of objects that the shipped detector finds, of the right kind and colour. It scales an
image to its own square, so it would see the objects of other formats stretched.
"""

from __future__ import annotations

import argparse

from inference import COLUMNS, Judges
from markdown_table import table

from vlad_lightning.pipeline import VLADPipeline

SIZES = ((1.0, 1.0), (1.0, 1.5), (1.5, 1.0), (1.0, 2.0), (1.5, 1.5), (2.0, 2.0))
"""Heights and widths, in sides of the training's images."""


def main() -> None:
    """Generate, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="vlad-mini", help="(default: %(default)s)")
    parser.add_argument("--posters", type=int, default=100, help="(default: %(default)s)")
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    side = pipe.config.image_size
    judges = Judges(options.posters, side)
    rows = []
    for down, across in SIZES:
        height, width = round(down * side), round(across * side)
        words, *objects = judges.shares(pipe, height=height, width=width)
        rows.append((f"{height} x {width}", words, *(objects if height == width else "-" * len(objects))))
    table(("height x width", *COLUMNS), rows)


if __name__ == "__main__":
    main()
