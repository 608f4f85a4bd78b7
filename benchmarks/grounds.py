"""How even the grounds of a pipeline's images are: ``python benchmarks/grounds.py [PIPELINE]``.

The prompts are those of literal posters whose ground has one colour, whether they tell it or not. Printed are, with
95 % intervals over images, the standard deviation of the ground's pixels (0 to 255, away from words and objects), and
the shares of words that are read and of objects that are right in everything:

============  ============================================================
``shipped``   guidance is rescaled at letters and objects, as the pipeline does
``whole``     guidance is rescaled everywhere
``none``      guidance is not rescaled
============  ============================================================
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from itertools import islice
from unittest.mock import patch

import numpy as np
import torch
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.source import RawSample
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.generation import image_generator
from vlad_lightning.layout.masks import fills_frame
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.objects import object_row
from vlad_lightning.metrics.ocr import ocr_row
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Layout

KINDS = ("shipped", "whole", "none")
BATCH, SEED = 20, 41
AWAY = 0.05  # of the frame: the distance to words and objects
LEAST = 0.15  # of the frame: images with less ground than this are left out of its deviation


def plain_posters(count: int, side: int) -> list[RawSample]:
    """Return the first literal posters on one colour."""
    source = SyntheticSource(20 * count, size=side, seed=SEED, world="literal")
    posters = map(source.read, range(len(source)))
    return list(islice((p for p in posters if p.scene and p.scene.kind == "solid" and not p.scene.accent), count))


def ground_of(layout: Layout, side: int) -> Tensor:
    """Return where a layout has neither words nor objects, (H, W) bool."""
    objects = Layout(("",) * len(layout.object_boxes), layout.object_boxes[:, :5])
    corners = torch.cat([layout.quads(), objects.quads()[~fills_frame(layout.object_boxes)]])
    ground = torch.ones(side, side, dtype=torch.bool)
    for low, high in zip(corners.amin(dim=1) - AWAY, corners.amax(dim=1) + AWAY, strict=True):
        (left, top), (right, bottom) = ((side * each).clamp(0, side).int().tolist() for each in (low, high))
        ground[top:bottom, left:right] = False
    return ground


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="vlad-mini", help="(default: %(default)s)")
    parser.add_argument("--posters", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    side = pipe.config.image_size
    posters = plain_posters(options.posters, side)

    def everywhere(objects: Tensor, letters: Tensor) -> Tensor:
        return torch.ones_like(letters)

    rows = []
    for kind in options.kinds:
        if kind == "none":
            pipe.register_to_config(guidance_rescale=0.0)
        with patch.object(image_generator, "drawn_positions", everywhere) if kind == "whole" else nullcontext():
            rows.append((kind, *measured(pipe, posters, side)))
    table(("rescaled", "deviation of the ground", "words read", "objects, all at once"), rows)


def measured(pipe: VLADPipeline, posters: list[RawSample], side: int) -> list[str]:
    """Generate the posters' prompts, and return the cells of a row."""
    detector, engine = EvaluationDetector("vlad-mini-evaluation", ObjectDetector(128, 24, True)), RapidOCREngine()
    deviations, counts = [], []
    for start in range(0, len(posters), BATCH):
        batch = posters[start : start + BATCH]
        prompts = [poster.prompt for poster in batch]
        made = pipe(prompts, generator=sampling_generators(0, [(p.key,) for p in batch]), output_type="pt")
        assert isinstance(made.images, Tensor)
        images = made.images * 2 - 1
        seen = zip(prompts, made.images, made.layouts, engine.read(images), detector.detect(images), strict=True)
        for prompt, image, layout, lines, found in seen:
            ground = ground_of(layout, side)
            if ground.float().mean() >= LEAST:
                pixels = 255 * image[:, ground]
                deviations.append(float((pixels - pixels.mean(dim=1, keepdim=True)).square().mean().sqrt()))
            objects = object_row(requested_objects(prompt, detector.nouns), found)
            read = ocr_row(lines, layout.words)["words_read"]
            counts.append((read, len(layout.words), objects["all_right"], objects["asked"]))
    words, asked_words, right, asked = np.array(counts, dtype=np.float64).T
    shares = [(np.array(deviations), np.ones(len(deviations)), None), (words, asked_words, 1.0), (right, asked, 1.0)]
    results = [ratio_result(part, whole, np.random.default_rng(0), most=most) for part, whole, most in shares]
    return [f"{r.value:.3g} ({r.low:.3g} to {r.high:.3g})" for r in results]


if __name__ == "__main__":
    main()
