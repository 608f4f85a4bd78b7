"""Fit and test the directions of ``LinearAutoencoder``: ``python benchmarks/linear_codec.py POSTERS HELDOUT``.

Both are folders in MARIO's format (``vlad-cli synth``). The directions are the principal components of 2 x 2 patches,
or of 4 x 4 with ``--factor 4``, of the first folder's images, about zero. On the second folder's images rapidocr looks
for the true words: on the original images, and after encoding and decoding by the shipped autoencoder and by more or
fewer components fitted here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from markdown_table import table
from safetensors.torch import save_file
from torch import Tensor

from vlad_lightning.data.mario import list_samples, read_sample
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.ocr import OCRMetrics
from vlad_lightning.metrics.ocr_engine import build_ocr_engine
from vlad_lightning.models.autoencoder import LinearAutoencoder

_CHANNELS = {2: 4, 4: 16}


def posters(root: Path, limit: int) -> tuple[Tensor, list[list[str]]]:
    """Load (N, 3, H, W) images in [-1, 1], and the words on each."""
    samples = [read_sample(folder) for folder in sorted(list_samples(root))[:limit]]
    images = torch.stack([from_pil(sample.image) for sample in samples])
    return images, [[word.text for word in sample.words] for sample in samples]


def fit(images: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Fit orthonormal rows (C, C), C = 3 factor^2, the strongest first, and the deviation of each about zero (C,)."""
    patches = F.pixel_unshuffle(images.double(), factor).movedim(1, -1).flatten(0, -2)
    variances, vectors = torch.linalg.eigh(patches.mT @ patches / len(patches))
    rows = vectors.flip(1).mT
    return rows * rows[:, -1:].sign(), variances.flip(0).sqrt()  # fixes the sign of a direction


def scaled(directions: Tensor, deviations: Tensor, factor: int) -> Tensor:
    """Scale orthonormal rows (C, 3 factor^2) as ``LinearAutoencoder`` says."""
    if factor == 2:
        return directions / deviations[:, None]
    return directions / (deviations[:, None] * deviations.mean()).sqrt()  # mean variance 1


def through(directions: Tensor, factor: int) -> Callable[[Tensor], Tensor]:
    """Project images on (C, 3 factor^2) orthonormal directions and back."""
    kept = (directions.mT @ directions).float()
    return lambda x: F.pixel_shuffle(torch.einsum("oi,bihw->bohw", kept, F.pixel_unshuffle(x, factor)), factor)


def main() -> None:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(description="The directions of LinearAutoencoder, and the words that it keeps.")
    parser.add_argument("posters", type=Path, help="to fit on")
    parser.add_argument("heldout", type=Path, help="to measure on")
    parser.add_argument("--fit", type=int, default=500, help="posters (default: %(default)s)")
    parser.add_argument("--measure", type=int, default=100, help="posters (default: %(default)s)")
    parser.add_argument("--factor", type=int, choices=_CHANNELS, default=2, help="side of a patch (default: 2)")
    parser.add_argument("--out", type=Path, help="safetensors file for the directions (default: print them)")
    options = parser.parse_args()
    factor, channels = options.factor, _CHANNELS[options.factor]
    directions, deviations = fit(posters(options.posters, options.fit)[0], factor)
    rows = scaled(directions[:channels], deviations[:channels], factor)
    if options.out:
        save_file({"directions": rows.float().contiguous()}, options.out)
    else:
        for row in rows:
            print(", ".join(f"{value:.4f}" for value in row.tolist()))
    images, words = posters(options.heldout, options.measure)
    autoencoder, engine = LinearAutoencoder(factor), build_ocr_engine("rapidocr")
    systems: dict[str, Callable[[Tensor], Tensor]] = {
        "none: the true posters": lambda x: x,
        "LinearAutoencoder": lambda x: autoencoder.decode_latents(autoencoder.encode_images(x)),
        **{
            f"{n} components fitted here": through(directions[:n], factor)
            for n in (channels * 3 // 4, channels, channels * 5 // 4)
        },
    }
    results = []
    for name, shown in systems.items():
        metric, seen = OCRMetrics(engine), shown(images).clamp(-1, 1)
        metric.update(seen, words)
        read = metric.compute()["word_accuracy"]
        error = (seen - images).square().mean().sqrt().item()
        results.append((name, f"{read.value:.3f} ({read.low:.3f} to {read.high:.3f})", f"{error:.3f}"))
    print(f"\n{len(images)} posters, {sum(map(len, words))} words, read by {engine.name}:\n")
    table(("autoencoder", "words read (95 %)", "root mean square error, pixels in [-1, 1]"), results)


if __name__ == "__main__":
    main()
