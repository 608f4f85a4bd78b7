"""Exchange words in held-out posters and read them with an OCR engine: ``python benchmarks/inpainting.py``.

The largest word of each poster is replaced by a word of another poster of the same kind, inpainted in the old word's
box and a margin. The new word must be read, the old one must not, nothing outside the region may change, and the
region must fit its surroundings: the seam is the mean difference of neighbouring pixels across the region's edge.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from vlad_lightning.callbacks.grid import sample_grid
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.splits import in_hash_order
from vlad_lightning.generation.prediction import masks_around
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.metrics.ocr import OCRMetrics
from vlad_lightning.metrics.ocr_engine import build_ocr_engine
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Layout, Sample

_MIN_CONFIDENCE = 0.3  # of an OCR line of the data; the default of the data module


@dataclass(frozen=True)
class Exchange:
    """A poster, and the word that replaces one of its words."""

    image: Tensor
    prompt: str
    old: str
    layout: Layout


def exchanges(samples: list[Sample], objects: bool) -> Iterator[Exchange]:
    """Yield one per sample: its largest word is replaced by the largest of the next sample with another one.

    Args:
        samples: posters.
        objects: whether the layouts keep the boxes of the posters' objects and backgrounds.
    """
    largest = [(sample, _largest(sample)) for sample in samples if _largest(sample)]
    for place, (sample, old) in enumerate(largest):
        others = (word for _, word in largest[place + 1 :] + largest[:place] if word not in drawn_words(sample.prompt))
        new = next(others, None)
        if old is None or new is None:
            continue
        row = sample.layout.words.index(old)
        layout = Layout((new,), sample.layout.boxes[row : row + 1])
        if objects:
            layout = replace(layout, objects=sample.layout.objects, object_boxes=sample.layout.object_boxes)
        yield Exchange(sample.image, sample.prompt.replace(f'"{old}"', f'"{new}"'), old, layout)


def _largest(sample: Sample) -> str | None:
    """Find the largest word of a poster that its caption quotes alone."""
    sizes = (sample.layout.boxes[:, 2] * sample.layout.boxes[:, 3]).tolist()
    quoted = [
        (size, word) for size, word in zip(sizes, sample.layout.words, strict=True) if f'"{word}"' in sample.prompt
    ]
    return max(quoted)[1] if quoted else None


def _seam(image: Tensor, region: Tensor) -> float:
    """Return the mean difference of a pixel in the region and its neighbour outside, as a fraction of the range.

    Args:
        image: (3, H, W) float in [-1, 1].
        region: (H, W) bool.
    """
    across, down = region[:, 1:] != region[:, :-1], region[1:] != region[:-1]
    rows, columns = (image[:, :, 1:] - image[:, :, :-1]).abs(), (image[:, 1:] - image[:, :-1]).abs()
    return (torch.cat([rows[:, across], columns[:, down]], dim=1).mean() / 2).item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pipeline", type=Path, nargs="?", default=Path("runs/demo/inpaint_pipeline"))
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data/test"), help="posters, in MARIO's format")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance_scale", type=float, help="(default: what the pipeline was tested with)")
    parser.add_argument("--layout_scale", type=float, help="likewise")
    parser.add_argument("--objects", action="store_true", help="give the boxes of the objects and backgrounds, too")
    parser.add_argument("--picture", type=Path, help="a PNG of the first eight, before and after")
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    source = MarioFolder(str(options.data), min_confidence=_MIN_CONFIDENCE)
    source.setup()
    numbers = in_hash_order(source.positions(0))[: 2 * options.samples]
    size, words = pipe.config.image_size, pipe.config.max_words
    data = MarioDataset(source, size, words, 32, Rasterizer(), indices=numbers)
    found = list(exchanges([data[i] for i in range(len(data))], options.objects))[: options.samples]
    engine = build_ocr_engine("rapidocr")
    new, old, before = OCRMetrics(engine), OCRMetrics(engine), OCRMetrics(engine)
    after, kept, seams = [], 0, []
    for number, one in enumerate(track(found, "posters")):
        generators = torch.Generator().manual_seed(number)
        settings: dict[str, Any] = {"num_inference_steps": options.steps, "generator": generators}
        settings |= {"guidance_scale": options.guidance_scale, "layout_scale": options.layout_scale}
        drawn = pipe.inpaint(one.prompt, one.image, None, one.layout, **settings, output_type="pt").images
        assert isinstance(drawn, Tensor)
        generated = drawn * 2 - 1
        new.update(generated, [one.layout.words])
        old.update(generated, [[one.old]])
        before.update(one.image[None], [[one.old]])
        kept += int(torch.isclose(generated[0], one.image, rtol=0, atol=1e-5).all(dim=0).sum())
        region = masks_around([one.layout], (size, size))[0, 0]
        seams.append([_seam(image, region) for image in (one.image, generated[0])])
        after.append(generated[0])
    pixels = len(found) * pipe.config.image_size**2
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, {date.today()}"
    print(f"{len(found)} posters, {options.steps} steps; {machine}\n")
    print("| word | read, share | 95 % |\n|---|---|---|")
    for name, metric in (("new, after", new), ("old, after", old), ("old, before", before)):
        result = metric.compute()["word_accuracy"]
        print(f"| {name} | {result.value:.3f} | {result.low:.3f} to {result.high:.3f} |")
    print(f"\n{kept / pixels:.1%} of the pixels are as they were.")
    true, made = torch.tensor(seams).mean(dim=0).tolist()
    print(f"The seam is {made:.3f} of the range of values after, and {true:.3f} before.")
    if options.picture:
        shown = list(zip(found, after, strict=True))[:8]
        pictures = [one.image for one, _ in shown] + [generated for _, generated in shown]
        words = [one.old for one, _ in shown] + [one.layout.words[0] for one, _ in shown]
        sample_grid(torch.stack(pictures), words, columns=len(shown)).savefig(options.picture)


if __name__ == "__main__":
    main()
