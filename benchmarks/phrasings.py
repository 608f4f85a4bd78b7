"""Ways in which people say the same: ``python benchmarks/phrasings.py PIPELINE ...``.

Printed are, with 95 % intervals over images,

- the shares of objects that the shipped detector finds of the right kind and colour, asked for plainly (``a red cat``),
  and with a held-out word of the dictionary before them that changes nothing (``a cedar red cat``),
- the share of the grounds whose outermost pixels have the palette colour that was asked for, as a background
  (``a poster that says 'WORD' on a blue background``), and as the poster's own (``a blue poster that says 'WORD'``).

The first row is the detector's ceiling: posters that show exactly such an object, in the middle.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.icons import icon_sides
from vlad_lightning.data.synthetic.poster import draw_poster
from vlad_lightning.data.synthetic.scene import Background, PlacedObject, Scene
from vlad_lightning.data.synthetic.sentences import with_article
from vlad_lightning.data.synthetic.vocabulary import dictionary, draw_word
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import NOUNS, SHAPES
from vlad_lightning.layout.pictures import from_pil, to_bytes
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pipeline import VLADPipeline

BORDER = 4  # pixels, of 128
BATCH = 12
SIDE, RADIUS = 128, 0.22
MEDIA = ("poster", "sign", "card", "banner", "flyer", "picture")

Right = Callable[[Tensor, Sequence[FoundObject]], bool]
"""Whether an image (3, H, W) in [0, 1] and what is found on it are what was asked for."""


def objects_asked(rng: np.random.Generator) -> tuple[list[tuple[str, Right]], list[tuple[str, Right]]]:
    """Return prompts for each noun in a colour, plain and with a word before it."""
    plain, qualified, words = [], [], dictionary(True, GRAMMAR_WORDS["literal"])
    for i, noun in enumerate(NOUNS):
        colour = list(PALETTE)[i % len(PALETTE)]
        word = words[int(rng.integers(len(words)))]
        right = shows(noun, colour)
        ground = ground_for(colour)
        plain.append((f"{with_article(f'{colour} {noun}')} on a {ground} background", right))
        qualified.append((f"{with_article(f'{word} {colour} {noun}')} on a {ground} background", right))
    return plain, qualified


def ground_for(colour: str) -> str:
    """Return a ground on which the colour can be seen."""
    return "white" if colour != "white" else "black"


def true_posters() -> list[Tensor]:
    """Draw what the plain prompts for objects ask for, (3, H, W) in [-1, 1]."""
    posters = []
    for i, noun in enumerate(NOUNS):
        posters.append(poster_of(noun, list(PALETTE)[i % len(PALETTE)]))
    return posters


def poster_of(noun: str, colour: str) -> Tensor:
    """Draw an object alone, in the middle, (3, H, W) in [-1, 1]."""
    ground = ground_for(colour)
    sides = (1.0, 1.0) if noun in SHAPES else icon_sides(noun, 0)
    thing = PlacedObject(noun, colour, 0.5, 0.5, RADIUS, sides)
    return from_pil(draw_poster(Scene(Background(ground, "solid", (PALETTE[ground],) * 2), (thing,), ()), SIDE))


def grounds_asked(rng: np.random.Generator) -> tuple[list[tuple[str, Right]], list[tuple[str, Right]]]:
    """Return prompts for each ground and kind of poster, said as a background and as the poster's colour."""
    background, poster = [], []
    for colour in PALETTE:
        right = is_on(colour)
        for medium in MEDIA:
            word = draw_word(rng, True, GRAMMAR_WORDS["literal"])
            background.append((f"a {medium} that says '{word}' on {with_article(colour)} background", right))
            poster.append((f"{with_article(f'{colour} {medium}')} that says '{word}'", right))
    return background, poster


def shows(noun: str, colour: str) -> Right:
    """Return a check of an object's kind and colour."""
    return lambda _, found: any(thing.shape == noun and thing.colour == colour for thing in found)


def is_on(colour: str) -> Right:
    """Return a check of the ground."""
    return lambda image, _: ground_name(image) == colour


def ground_name(image: Tensor) -> str:
    """Return the palette colour nearest to the median of the outermost pixels."""
    pixels = to_bytes(2 * image[None] - 1)[0].permute(1, 2, 0).numpy()
    edges = pixels[:BORDER], pixels[-BORDER:], pixels[:, :BORDER], pixels[:, -BORDER:]
    median = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    return min(PALETTE, key=lambda name: math.dist(PALETTE[name], median))


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sets = [*objects_asked(rng), *grounds_asked(rng)]
    detector = EvaluationDetector("vlad-mini-evaluation", ObjectDetector(128, 24, True))
    found = detector.detect(torch.stack(true_posters()))
    seen = [right(Tensor(), things) for (_, right), things in zip(sets[0], found, strict=True)]
    rows = [("true posters", in_words(seen), "", "", "")]
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        rows.append((name, *(share(pipe, detector, asked) for asked in sets)))
    columns = ("a red cat", "a cedar red cat", "on a blue background", "a blue poster")
    table(("pipeline", *(f"{c} ({len(asked)})" for c, asked in zip(columns, sets, strict=True))), rows)


def share(pipe: VLADPipeline, detector: EvaluationDetector, asked: Sequence[tuple[str, Right]]) -> str:
    """Return the share of the prompts whose image is right, with its interval."""
    right = []
    for start in range(0, len(asked), BATCH):
        prompts, checks = zip(*asked[start : start + BATCH], strict=True)
        generators = sampling_generators(0, [(f"{start + i}",) for i in range(len(prompts))])
        images = pipe(list(prompts), generator=generators, output_type="pt").images
        assert isinstance(images, Tensor)
        found = detector.detect(2 * images - 1)
        right += [check(*seen) for check, *seen in zip(checks, images, found, strict=True)]
    return in_words(right)


def in_words(right: Sequence[bool]) -> str:
    """Return a share with its interval."""
    result = ratio_result(np.array(right, dtype=float), np.ones(len(right)), np.random.default_rng(0))
    return f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f})"


if __name__ == "__main__":
    main()
