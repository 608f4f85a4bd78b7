"""How cost grows: ``OMP_NUM_THREADS=1 python benchmarks/growth.py [PARTS ...]``.

Each part makes one thing larger, and prints the processor's seconds, the most memory that Python's allocators held (of
NumPy's arrays, not of torch's tensors), and by which power of the size the seconds grow from each line to the next:

==============  =======================================================================================
``batch``       images generated in one batch by the shipped pipeline
``words``       words on each of 8 images
``pixels``      pixels of an image; the shipped network, which was trained with 128 px a side
``intervals``   images of a test: the interval of a share, from 2000 resamples
``differences`` images of a test: interval and p-value of a paired difference, from as many swaps
``retrieval``   pairs of a test: R@1 in both directions, which compares all images with all texts
``posters``     posters of a data set: its splits, its order and the first batch
==============  =======================================================================================
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from markdown_table import table_rows

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import numbered, sampling_generators
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.paired import paired_difference
from vlad_lightning.models.contrastive import retrieval_at_1
from vlad_lightning.pipeline import VLADPipeline

Work = Callable[[], object]
WORDS = ("ONE", "TWO", "SIX", "TEN", "RED", "SKY")


def generation(count: int, words: int, side: int = 128) -> Work:
    """Return the generation of ``count`` images."""
    pipe = VLADPipeline.from_pretrained("vlad-mini")
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(image_size=side)
    prompts = [f"a blue poster that says '{' '.join(WORDS[:words])}'"] * count
    return lambda: pipe(prompts, generator=sampling_generators(0, numbered(prompts)), output_type="pt")


def interval(images: int) -> Work:
    """Return the interval of a share."""
    right = np.random.default_rng(0).random(images)
    return lambda: ratio_result(right, np.ones(images), np.random.default_rng(1))


def difference(images: int) -> Work:
    """Return the comparison of two systems."""
    rng = np.random.default_rng(0)
    first, second = (
        {f"{i:08d}": [float(right), 1.0] for i, right in enumerate(rng.random(images) < 0.5)} for _ in "ab"
    )
    return lambda: paired_difference(first, second, np.random.default_rng(1))


def retrieval(pairs: int) -> Work:
    """Return R@1 of random embeddings of 64 numbers."""
    images, texts = torch.randn(2, pairs, 64, generator=torch.Generator().manual_seed(0))
    return lambda: retrieval_at_1(images, texts)


def posters(count: int) -> Work:
    """Return the start of a data module."""

    def start() -> object:
        data = MarioDataModule(source=SyntheticSource(count, size=64), size=64, batch_size=8, num_workers=0)
        data.prepare_data()
        data.setup("fit")
        return next(iter(data.train_dataloader()))

    return start


PARTS: dict[str, tuple[Callable[[int], Work], tuple[int, ...]]] = {
    "batch": (lambda size: generation(size, 2), (2, 4, 8, 16, 32)),
    "words": (lambda size: generation(8, size), (1, 2, 4, 6)),
    "pixels": (lambda size: generation(2, 2, math.isqrt(size)), (64**2, 128**2, 256**2)),
    "intervals": (interval, (500, 5_000, 50_000, 500_000)),
    "differences": (difference, (500, 5_000, 50_000, 500_000)),
    "retrieval": (retrieval, (1_000, 3_000, 10_000, 30_000, 100_000)),
    "posters": (posters, (10_000, 100_000, 1_000_000)),
}


def cost(work: Work) -> tuple[float, float]:
    """Return the seconds of the processor and the peak of the memory in MiB of a second call; the first warms up."""
    work()
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=list(PARTS), help="(default: all)")
    options = parser.parse_args()
    print("| what | size | s | MiB | power |\n|---|---|---|---|---|")
    for part in options.parts or PARTS:
        build, sizes = PARTS[part]
        before: tuple[int, float] | None = None
        for size in sizes:
            seconds, peak = cost(build(size))
            power = "" if before is None else f"{math.log(seconds / before[1]) / math.log(size / before[0]):.2f}"
            table_rows([(part, f"{size:,}", f"{seconds:.3g}", f"{peak:.0f}", power)])
            before = size, seconds


if __name__ == "__main__":
    main()
