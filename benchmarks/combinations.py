"""Objects in combinations that training never showed: ``python benchmarks/combinations.py PIPELINE``.

The pipeline generates the held-out posters of the rich world, with its own layouts. Each object that a prompt asks for
with a colour belongs to one of two kinds: the noun in this colour was held out of the training's posters, or not. For
both the shares of objects that are present, of the right kind, and right altogether are printed, for the generated
images and the true posters, with 95 % intervals over images.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from markdown_table import table
from rich.progress import track
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.combinations import is_colour_held_out
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.object_requests import RequestedObject, requested_objects
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.objects import match_objects
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pipeline import VLADPipeline

SIZE = 128
MEASURES = ("present", "of the kind", "in the colour", "both")

Counts = dict[tuple[str, bool], list[tuple[int, ...]]]
"""(images, whether the noun was held out in its colour) -> of each image: requests, and those right by each measure."""


def count(wanted: Sequence[RequestedObject], found: Sequence[object], held_out: bool) -> tuple[int, ...]:
    """Count the requests of one image that are held out or not, and how many of them each measure finds right."""
    right = np.zeros(1 + len(MEASURES), dtype=int)
    for request, match in zip(wanted, match_objects(wanted, found), strict=True):  # type: ignore[arg-type]
        if request.colour is None or is_colour_held_out(request.name, request.colour) != held_out:
            continue
        kind = match is not None and match.shape == request.name
        colour = match is not None and match.colour == request.colour
        right += [1, match is not None, kind, colour, kind and colour]
    return tuple(int(value) for value in right)


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="pipeline folder, or a shipped name")
    parser.add_argument("--posters", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--detector", default="vlad-mini-evaluation", help="(default: %(default)s)")
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    detector = EvaluationDetector(options.detector, ObjectDetector(SIZE, 24, True))
    source = SyntheticSource(options.posters, SIZE, seed=1, heldout=True, world="rich")
    data = MarioDataModule(
        source=SyntheticSource(2, SIZE, world="rich"), test_source=source, size=SIZE, batch_size=16,
        max_words=pipe.config.max_words, test_share=0.0, val_share=0.5,
    )  # fmt: skip
    data.setup("test")
    counts: Counts = defaultdict(list)
    for batch in track(data.test_dataloader(), description="posters"):
        drawn = pipe(
            list(batch.prompts), generator=sampling_generators(0, [(key,) for key in batch.keys]), output_type="pt"
        ).images
        assert isinstance(drawn, Tensor)
        for name, images in (("generated", drawn * 2 - 1), ("true", batch.images)):
            for prompt, found in zip(batch.prompts, detector.detect(images), strict=True):
                wanted = requested_objects(prompt, detector.nouns)
                for held_out in (False, True):
                    counts[name, held_out].append(count(wanted, found, held_out))
    rows = []
    for (name, held_out), images_counts in sorted(counts.items()):
        columns = np.array(images_counts, dtype=np.float64).T
        rng = np.random.default_rng(0)
        results = [ratio_result(right, columns[0], rng) for right in columns[1:]]
        shown = (f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in results if r.low is not None)
        rows.append((name, "held out" if held_out else "seen", f"{int(columns[0].sum())}", *shown))
    table(("images", "noun in this colour", "objects", *MEASURES), rows)
    print(f"detector {detector.name}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
