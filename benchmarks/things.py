"""Which things a pipeline draws so that outlines tell them apart: ``python benchmarks/things.py PIPELINE ...``.

No detector knows the further things of the literal world, so here an image of one thing is compared with all icons: the
box of what differs from the ground, at 24 x 24 pixels, belongs to the icon with the smallest mean difference. Printed
are the shares, with 95 % intervals over nouns, of the right icons among all, asked for with a colour (``a red dog``)
and without (``a dog``), and of empty images. The first row has posters that show such a thing: the judge's ceiling.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from markdown_table import table
from numpy.typing import NDArray
from phrasings import BATCH, BORDER, in_words, poster_of
from PIL import Image
from torch import Tensor

from vlad_lightning.data.synthetic.icons import icon_mask
from vlad_lightning.data.synthetic.sentences import with_article
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import FURTHER_THINGS, THINGS
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.pipeline import VLADPipeline

EVERY = (*THINGS, *FURTHER_THINGS)
CELLS = 24
SEEN = 60  # least distance of a pixel's colour to the ground's, of 255 * sqrt(3)


def colour_of(noun: str) -> str:
    """Return the colour in which a noun is asked for."""
    return list(PALETTE)[EVERY.index(noun) % len(PALETTE)]


def true_posters(nouns: Sequence[str]) -> Tensor:
    """Draw a poster of each thing, (B, 3, H, W) in [-1, 1]."""
    return torch.stack([poster_of(noun, colour_of(noun)) for noun in nouns])


def outline(image: Tensor) -> NDArray[np.float64] | None:
    """Return what differs from the ground of an image (3, H, W) in [-1, 1], in its box, (24, 24); None if empty."""
    pixels = to_bytes(image[None])[0].permute(1, 2, 0).numpy().astype(np.float64)
    edges = pixels[:BORDER], pixels[-BORDER:], pixels[:, :BORDER], pixels[:, -BORDER:]
    ground = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    distance = np.linalg.norm(pixels - ground, axis=-1)
    rows, columns = np.nonzero(distance > SEEN)
    if len(rows) == 0:
        return None
    ink = np.clip(distance / np.percentile(distance[rows, columns], 90), 0, 1)
    box = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    small = Image.fromarray((255 * box).astype(np.uint8)).resize((CELLS, CELLS), Image.Resampling.BOX)
    return np.asarray(small) / 255


def nearest(shape: NDArray[np.float64]) -> str:
    """Return the thing whose icon is nearest."""
    return min(EVERY, key=lambda noun: np.abs(shape - np.asarray(icon_mask(noun, 0, CELLS, CELLS)) / 255).mean())


def judged(images: Tensor, nouns: Sequence[str]) -> tuple[str, str]:
    """Return the shares of the right things, and of empty images, with their intervals."""
    shapes = [outline(image) for image in images]
    right = [shape is not None and nearest(shape) == noun for shape, noun in zip(shapes, nouns, strict=True)]
    return in_words(right), in_words([shape is None for shape in shapes])


def drawn(pipe: VLADPipeline, prompts: Sequence[str]) -> Tensor:
    """Generate the prompts, (B, 3, H, W) in [-1, 1]."""
    images = []
    for start in range(0, len(prompts), BATCH):
        some = list(prompts[start : start + BATCH])
        made = pipe(some, generator=sampling_generators(0, [(prompt,) for prompt in some]), output_type="pt").images
        assert isinstance(made, Tensor)
        images.append(2 * made - 1)
    return torch.cat(images)


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    options = parser.parse_args()
    sets = (THINGS, FURTHER_THINGS)
    rows = [["true posters", *(cell for nouns in sets for cell in (judged(true_posters(nouns), nouns)[0], "", ""))]]
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        cells = [name]
        for nouns in sets:
            right, empty = judged(drawn(pipe, [with_article(f"{colour_of(noun)} {noun}") for noun in nouns]), nouns)
            plain, _ = judged(drawn(pipe, [with_article(noun) for noun in nouns]), nouns)
            cells += [right, plain, empty]
        rows.append(cells)
    head = [f"{said} ({len(nouns)})" for nouns in sets for said in ("a red cat", "a cat", "empty")]
    table(("pipeline", *head), [tuple(row) for row in rows])


if __name__ == "__main__":
    main()
