"""Whether the pattern that a prompt asks for is drawn: ``python benchmarks/patterns.py PIPELINE ...``.

Prompts ask for a word on a striped, dotted, banded or gradient ground in each palette colour. Printed is, with 95 %
intervals over images, the correlation of the ground's brightness, away from the word, with that pattern as the literal
world draws it: 1 for the pattern, 0 for an even ground. The last column is the mean over all patterns of the same on
images whose prompts ask for the colour alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from grounds import ground_of
from markdown_table import table
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.data.synthetic.backgrounds import in_usual_form
from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.poster import draw_background
from vlad_lightning.data.synthetic.scene import Background
from vlad_lightning.data.synthetic.sentences import background_phrase
from vlad_lightning.data.synthetic.vocabulary import dictionary
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Layout

PATTERNS = ("striped", "dotted", "banded", "gradient")


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    options = parser.parse_args()
    rows = []
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        found = [correlations(*drawn(pipe, kind), [kind]) for kind in PATTERNS]
        even = correlations(*drawn(pipe, "solid"), PATTERNS)
        rows.append((name, *(in_words(values) for values in (*found, even))))
    table(("pipeline", *(f"{kind} ({len(PALETTE)})" for kind in PATTERNS), "asked for a colour alone"), rows)


def ground(kind: str, colour: str) -> Background:
    """Return a background as the literal world has it."""
    return in_usual_form(Background(colour, kind, (PALETTE[colour],) * 2))


def drawn(pipe: VLADPipeline, kind: str) -> tuple[Tensor, Sequence[Layout]]:
    """Return an image with a word on a ground of this kind in each colour, (B, 3, H, W) in [0, 1], and its layouts."""
    rng, words = np.random.default_rng(0), dictionary(True, GRAMMAR_WORDS["literal"])
    prompts = [
        f"a poster that says '{words[int(rng.integers(len(words)))]}' on {background_phrase(ground(kind, colour))}"
        for colour in PALETTE
    ]
    made = pipe(prompts, generator=sampling_generators(0, [(prompt,) for prompt in prompts]), output_type="pt")
    assert isinstance(made.images, Tensor)
    return made.images, made.layouts


def correlations(images: Tensor, layouts: Sequence[Layout], kinds: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean correlation of each image's ground with the patterns."""
    side = images.shape[-1]
    values = []
    for image, layout, colour in zip(images, layouts, PALETTE, strict=True):
        where = ground_of(layout, side)
        seen = image.mean(dim=0)[where]
        patterns = [torch.from_numpy(np.array(draw_background(ground(kind, colour), side))) for kind in kinds]
        expected = [pattern.float().mean(dim=-1)[where] for pattern in patterns]
        values.append(np.mean([float(torch.corrcoef(torch.stack([seen, each]))[0, 1]) for each in expected]))
    return np.array(values)


def in_words(values: NDArray[np.float64]) -> str:
    """Return a mean with its interval."""
    result = ratio_result(values, np.ones(len(values)), np.random.default_rng(0), most=None)
    return f"{result.value:.2f} ({result.low:.2f} to {result.high:.2f})"


if __name__ == "__main__":
    main()
