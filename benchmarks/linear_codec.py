"""Fit and test the directions of ``LinearAutoencoder``: ``python benchmarks/linear_codec.py POSTERS HELDOUT``.

Both are folders in MARIO's format (``vlad-cli synth``). The directions are the principal components of 2 x 2 patches of
the first folder's images, about zero. On the second folder's images rapidocr looks for the true words: on the original
images, and after encoding and decoding by the shipped autoencoder and by more or fewer components fitted here.
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
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.ocr import OCRMetrics
from vlad_lightning.metrics.ocr_engine import build_ocr_engine
from vlad_lightning.models.autoencoder import LinearAutoencoder

_SIDE = LinearAutoencoder.factor


def posters(root: Path, limit: int) -> tuple[Tensor, list[list[str]]]:
    """Load (N, 3, H, W) images in [-1, 1], and the words on each."""
    samples = [read_sample(folder) for folder in sorted(list_samples(root))[:limit]]
    images = torch.stack([from_pil(sample.image) for sample in samples])
    return images, [[word.text for word in sample.words] for sample in samples]


def fit(images: Tensor) -> tuple[Tensor, Tensor]:
    """Fit orthonormal rows (12, 12), the strongest first, and the deviation of each about zero (12,)."""
    patches = F.pixel_unshuffle(images.double(), _SIDE).movedim(1, -1).flatten(0, -2)
    variances, vectors = torch.linalg.eigh(patches.mT @ patches / len(patches))
    rows = vectors.flip(1).mT
    return rows * rows[:, -1:].sign(), variances.flip(0).sqrt()  # fixes the sign of a direction


def through(directions: Tensor) -> Callable[[Tensor], Tensor]:
    """Project images on (C, 12) orthonormal directions and back."""
    kept = (directions.mT @ directions).float()
    return lambda x: F.pixel_shuffle(torch.einsum("oi,bihw->bohw", kept, F.pixel_unshuffle(x, _SIDE)), _SIDE)


def main() -> None:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(description="The directions of LinearAutoencoder, and the words that it keeps.")
    parser.add_argument("posters", type=Path, help="to fit on")
    parser.add_argument("heldout", type=Path, help="to measure on")
    parser.add_argument("--fit", type=int, default=500, help="posters (default: %(default)s)")
    parser.add_argument("--measure", type=int, default=100, help="posters (default: %(default)s)")
    options = parser.parse_args()
    directions, deviations = fit(posters(options.posters, options.fit)[0])
    for row in directions[:4] / deviations[:4, None]:
        print(", ".join(f"{value:.4f}" for value in row.tolist()))
    images, words = posters(options.heldout, options.measure)
    autoencoder, engine = LinearAutoencoder(), build_ocr_engine("rapidocr")
    systems: dict[str, Callable[[Tensor], Tensor]] = {
        "none: the true posters": lambda x: x,
        "LinearAutoencoder": lambda x: autoencoder.decode_latents(autoencoder.encode_images(x)),
        **{f"{n} components fitted here": through(directions[:n]) for n in (3, 4, 5)},
    }
    rows = []
    for name, shown in systems.items():
        metric, seen = OCRMetrics(engine), shown(images).clamp(-1, 1)
        metric.update(seen, words)
        read = metric.compute()["word_accuracy"]
        error = (seen - images).square().mean().sqrt().item()
        rows.append((name, f"{read.value:.3f} ({read.low:.3f} to {read.high:.3f})", f"{error:.3f}"))
    print(f"\n{len(images)} posters, {sum(map(len, words))} words, read by {engine.name}:\n")
    table(("autoencoder", "words read (95 %)", "root mean square error, pixels in [-1, 1]"), rows)


if __name__ == "__main__":
    main()
