"""Whether letters have the colour that a prompt asks for: ``python benchmarks/letter_colours.py PIPELINE ...``.

Each readable pair of a letters' and a ground's colour is asked for in two wordings, with a word that training posters
may have; and each letters' colour that is readable on white or on black alone, where the ground is left to the
pipeline. Printed are the shares of images whose letters have their colour, with 95 % intervals over images, and the
pairs that were wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.synthetic.composition import text_colours
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.word_colour import ink_colours
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import MetricResult

TOLD = ("a card on a {ground} background with the word 'HELLO' in {colour}", "'HELLO' in {colour}, {ground} background")
UNTOLD = ("'HELLO' in {colour}", "a poster with the text 'HELLO' in {colour} letters")
PAIRS = [(colour, ground) for ground, rgb in PALETTE.items() for colour in text_colours(rgb)]
ALONE = [(colour, "") for colour in PALETTE if any((colour, ground) in PAIRS for ground in ("white", "black"))]
BATCH = 20


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", metavar="PIPELINE", help="a pipeline folder, or vlad-mini")
    options = parser.parse_args()
    rows = []
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        for kind, forms, pairs in (("told", TOLD, PAIRS), ("left open", UNTOLD, ALONE)):
            asked = [(form, *pair) for form in forms for pair in pairs]
            found = letters(pipe, [form.format(colour=colour, ground=ground) for form, colour, ground in asked])
            right = np.array([colour == seen for (_, colour, _), seen in zip(asked, found, strict=True)], dtype=float)
            wrong = sorted(
                {
                    f"{colour}{' on ' * bool(ground)}{ground} was {seen}"
                    for (_, colour, ground), seen in zip(asked, found, strict=True)
                    if seen != colour
                }
            )
            share = ratio_result(right, np.ones(len(right)), np.random.default_rng(0))
            rows.append((name, kind, str(len(asked)), cell(share), ", ".join(wrong)))
    table(("pipeline", "ground", "images", "letters in the colour asked for", "wrong"), rows)


def letters(pipe: VLADPipeline, prompts: Sequence[str]) -> list[str]:
    """Generate an image for each prompt, and return the colours of their letters."""
    found = []
    for start in range(0, len(prompts), BATCH):
        part = list(prompts[start : start + BATCH])
        generators = sampling_generators(0, [(prompt,) for prompt in part])
        made = pipe(part, generator=generators, output_type="pt")
        assert isinstance(made.images, Tensor)
        for image, layout in zip(made.images, made.layouts, strict=True):
            glyphs = glyph_images(Rasterizer()(layout, (image.shape[-2], image.shape[-1]))[None])[0]
            found += ink_colours(image * 2 - 1, glyphs, layout)
    return found


def cell(share: MetricResult) -> str:
    """Write a share with its interval."""
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


if __name__ == "__main__":
    main()
