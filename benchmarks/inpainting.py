"""Exchange words in held-out posters and read them with an OCR engine: ``python benchmarks/inpainting.py``.

The largest word of each poster is replaced by a word of another poster of the same kind, inpainted in the old word's
box and a margin. The new word must be read, the old one must not, and nothing outside the region may change.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from vlad_lightning.callbacks.grid import sample_grid
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.splits import in_hash_order
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


def exchanges(samples: list[Sample]) -> Iterator[Exchange]:
    """Yield one per sample: its largest word is replaced by the largest of the next sample with another one."""
    largest = [(sample, _largest(sample)) for sample in samples if _largest(sample)]
    for place, (sample, old) in enumerate(largest):
        others = (word for _, word in largest[place + 1 :] + largest[:place] if word not in drawn_words(sample.prompt))
        new = next(others, None)
        if old is None or new is None:
            continue
        row = sample.layout.words.index(old)
        layout = Layout((new,), sample.layout.boxes[row : row + 1])
        yield Exchange(sample.image, sample.prompt.replace(f'"{old}"', f'"{new}"'), old, layout)


def _largest(sample: Sample) -> str | None:
    """Find the largest word of a poster that its caption quotes alone."""
    sizes = (sample.layout.boxes[:, 2] * sample.layout.boxes[:, 3]).tolist()
    quoted = [
        (size, word) for size, word in zip(sizes, sample.layout.words, strict=True) if f'"{word}"' in sample.prompt
    ]
    return max(quoted)[1] if quoted else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pipeline", type=Path, nargs="?", default=Path("runs/demo/inpaint_pipeline"))
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data/test"), help="posters, in MARIO's format")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", type=Path, help="a PNG of the first eight, before and after")
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    source = MarioFolder(str(options.data), min_confidence=_MIN_CONFIDENCE)
    source.setup()
    numbers = in_hash_order(source.positions(0))[: 2 * options.samples]
    size, words = pipe.config.image_size, pipe.config.max_words
    data = MarioDataset(source, size, words, 32, Rasterizer(), indices=numbers)
    found = list(exchanges([data[i] for i in range(len(data))]))[: options.samples]
    engine = build_ocr_engine("rapidocr")
    new, old, before = OCRMetrics(engine), OCRMetrics(engine), OCRMetrics(engine)
    after, kept = [], 0
    for number, one in enumerate(track(found, "posters")):
        generators = torch.Generator().manual_seed(number)
        settings = {"num_inference_steps": options.steps, "generator": generators, "output_type": "pt"}
        generated = pipe.inpaint(one.prompt, one.image, None, one.layout, **settings).images
        new.update(generated, [one.layout.words])
        old.update(generated, [[one.old]])
        before.update(one.image[None], [[one.old]])
        kept += int((generated[0] == one.image).all(dim=0).sum())
        after.append(generated[0])
    pixels = len(found) * pipe.config.image_size**2
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, {date.today()}"
    print(f"{len(found)} posters, {options.steps} steps; {machine}\n")
    print("| word | read, share | 95 % |\n|---|---|---|")
    for name, metric in (("new, after", new), ("old, after", old), ("old, before", before)):
        result = metric.compute()["word_accuracy"]
        print(f"| {name} | {result.value:.3f} | {result.low:.3f} to {result.high:.3f} |")
    print(f"\n{kept / pixels:.1%} of the pixels are as they were.")
    if options.picture:
        shown = list(zip(found, after, strict=True))[:8]
        pictures = [one.image for one, _ in shown] + [generated for _, generated in shown]
        words = [one.old for one, _ in shown] + [one.layout.words[0] for one, _ in shown]
        sample_grid(torch.stack(pictures), words, columns=len(shown)).savefig(options.picture)


if __name__ == "__main__":
    main()
