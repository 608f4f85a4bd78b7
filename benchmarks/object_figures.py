"""Measure the object results of true posters, of exchanged prompts, and of pictures without objects.

    python benchmarks/object_figures.py --checkpoint runs/mini/objects/last.ckpt --data runs/mini/data/test

The first row is the ceiling of every result, the second its level by chance. In the other rows, shape and binding must
be near zero, however right the colours and places of the blobs are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.mario import list_samples, read_sample
from vlad_lightning.data.source import RawSample
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.objects import SHARES, ObjectMetrics
from vlad_lightning.models.object_augmentation import blob_masks
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.types import MetricResult

_BATCH = 100
ImageGenerator = Callable[[RawSample, Tensor, torch.Generator], Tensor]


def _true(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    return image


def _ground(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the plain background."""
    assert sample.scene is not None
    return _colour(sample.scene.colour).expand_as(image)


def _blobs(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw blobs of the objects' colours in their boxes."""
    assert sample.scene is not None
    image = _ground(sample, image, generator)
    for thing in sample.scene.objects:
        left, top, right, bottom = thing.box
        drawn = torch.rand(1, 11, generator=generator)
        radius, x, y = torch.tensor([[right - left], [left + right], [top + bottom]]) / 2
        mask = blob_masks(image.shape[-1], radius, x, y, drawn)
        image = image + mask * (_colour(thing.colour) - image)
    return image


def _noise(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(image.shape, generator=generator) * 2 - 1


def _coarse_noise(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw smooth spots of random colours."""
    small = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    return F.interpolate(small, image.shape[-2:], mode="bicubic")[0].clamp(-1, 1)


def _soft(sample: RawSample, image: Tensor, generator: torch.Generator) -> Tensor:
    """Blur the true poster over 3 x 3 pixels and add a little noise."""
    smooth = F.avg_pool2d(F.pad(image[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    return smooth + 0.05 * torch.randn(image.shape, generator=generator)


_ROWS: dict[str, tuple[ImageGenerator, int]] = {
    "true posters": (_true, 0),
    "true posters, prompts exchanged": (_true, 1),
    "true posters, blurred and noisy": (_soft, 0),
    "plain backgrounds": (_ground, 0),
    "blobs of the right colours at the right places": (_blobs, 0),
    "noise": (_noise, 0),
    "spots of random colours": (_coarse_noise, 0),
}


def main() -> None:
    """Print a Markdown table with a row for each kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="of vlad-cli fit --config mini/object_detector.yaml")
    parser.add_argument("--data", type=Path, required=True, help="posters with scene.json, from vlad-cli synth")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, help="of the detector")
    parser.add_argument("--threshold", type=float, default=0.4)
    options = parser.parse_args()
    evaluation_encoder = EvaluationDetector(
        options.checkpoint, ObjectDetector(options.size, options.width), options.threshold
    )
    samples = [read_sample(folder) for folder in list_samples(options.data)[: options.samples]]
    images = [from_pil(sample.image, (options.size, options.size)) for sample in samples]
    prompts = [sample.prompt for sample in samples]
    names = (*SHARES, "object_extra")
    rows: list[tuple[str, ...]] = []
    for name, (generate, shift) in _ROWS.items():
        metric, generator = ObjectMetrics(evaluation_encoder), torch.Generator().manual_seed(0)
        for start in range(0, len(samples), _BATCH):
            chosen = range(start, min(start + _BATCH, len(samples)))
            pictures = torch.stack([generate(samples[i], images[i], generator) for i in chosen])
            metric.update(pictures, [prompts[(i + shift) % len(prompts)] for i in chosen])
        results = metric.compute()
        rows.append((name, *(_cell(results.get(result)) for result in names)))
    table(("pictures", *names), rows)


def _colour(name: str) -> Tensor:
    """Return a colour as (3, 1, 1) float in [-1, 1]."""
    return (torch.tensor(PALETTE[name]) / 127.5 - 1)[:, None, None]


def _cell(result: MetricResult | None) -> str:
    if result is None:
        return "-"
    if result.low is None:
        return f"{result.value:.3f}"
    return f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f}), n {result.n}"


if __name__ == "__main__":
    main()
