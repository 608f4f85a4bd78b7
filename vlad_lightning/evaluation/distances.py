"""Results of all images together that are no shares: distances to true images, and the CLIP score."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.data.progress import Shown
from vlad_lightning.evaluation.figures import Figure
from vlad_lightning.evaluation.image_files import ImageFile
from vlad_lightning.files import PICTURE_SUFFIXES, as_rgb, printable, read_picture
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.clip_score import SCALINGS, TransformersCLIP, clip_score
from vlad_lightning.metrics.efficientnet_lite import EfficientNetLite0, check_installed
from vlad_lightning.metrics.embedder import Embedder, Held, ImageEmbedder
from vlad_lightning.metrics.fid import InceptionNetwork, PytorchFidNetwork, frechet_distance, kernel_distance
from vlad_lightning.types import MetricResult

EMBEDDED_TOGETHER = 16
"""Images that are embedded in one batch."""

_KID_SUBSETS = 100
_KID_SIZE = 1000
_PREFIX = "A photo depicts "


@dataclass(frozen=True)
class Distances:
    """What is computed of all images together.

    Attributes:
        reference: folder of true images, for the distances; None leaves them out.
        inception: file of FID's Inception network; None takes EfficientNet-Lite0 instead, whose distances are named
            ``fd_efficientnet_lite0`` and ``kd_efficientnet_lite0``.
        clip: folder of a CLIP of transformers, for the CLIP score; None leaves it out.
        device: where the networks run.
        seed: seed of KID's subsets and of the intervals.

    Raises:
        FileNotFoundError: if a folder or file does not exist.
        ValueError: if there are fewer than two true images, the Inception network is given without them, or the
            stand-in for it is not installed.
    """

    reference: Path | None = None
    inception: Path | None = None
    clip: Path | None = None
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("reference", "clip"):
            folder = getattr(self, name)
            if folder is not None and not folder.is_dir():
                raise FileNotFoundError(f"--{name} {printable(folder)} is no folder")
        if self.inception is not None and not self.inception.is_file():
            raise FileNotFoundError(f"--inception {printable(self.inception)} is no file")
        if self.inception is not None and self.reference is None:
            raise ValueError("--inception is given without --reference, the folder of true images")
        if self.reference is not None and self.inception is None:
            check_installed()
        if self.reference is not None and (count := len(self._true_images())) < 2:
            raise ValueError(f"--reference {printable(self.reference)} has {count} images; a distance needs at least 2")

    def __call__(self, images: Sequence[ImageFile]) -> dict[str, dict[str, Any]]:
        """Return the results by name.

        A distance is the mean over the images of each prompt of that between the true images and one image of each
        prompt, as MARIO-Eval has it.
        """
        results: dict[str, MetricResult] = {}
        if self.reference is not None:
            for network in self._networks():
                results |= self._distances(network, images)
        if self.clip is not None:
            results |= self._clip_scores(images)
        return {name: asdict(result) for name, result in results.items()}

    def warnings(self, images: int) -> list[str]:
        """Return what is to be said before the work starts: whether there are too few images for a covariance."""
        if self.reference is None:
            return []
        names, features = (("fid", "kid"), 2048) if self.inception else (EfficientNetLite0.result_names, 1280)
        least = min(images, len(self._true_images()))
        if least > features:
            return []
        return [
            f"{least} images are too few for the covariance of {features} features: {names[0]} is biased upwards; "
            f"compare systems by {names[1]}, which has no such bias"
        ]

    def _networks(self) -> list[ImageEmbedder]:
        if self.inception is None:
            return [EfficientNetLite0()]
        return [InceptionNetwork(str(self.inception)), PytorchFidNetwork(str(self.inception))]

    def _true_images(self) -> list[Path]:
        assert self.reference is not None
        return sorted(path for path in self.reference.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)

    def _distances(self, network: ImageEmbedder, images: Sequence[ImageFile]) -> dict[str, MetricResult]:
        held = Held(network)
        frechet, kernel = network.result_names  # type: ignore[attr-defined]
        true, _ = self._features(held, self._true_images(), f"true images, {frechet}")
        made, kept = self._features(held, [image.path for image in images], f"images, {frechet}")
        numbers = np.array([images[place].number for place in kept])
        parts = [made[torch.from_numpy(np.flatnonzero(numbers == number))] for number in sorted(set(numbers.tolist()))]
        parts = [part for part in parts if len(part) > 1]
        if not parts or len(true) < 2:
            warnings.warn(f"{frechet} is left out: fewer than two images can be read", stacklevel=2)
            return {}
        about = {"network": network.name, "sha256": network.sha256, "n_real": len(true), "n_fake": len(made)}
        size = min(_KID_SIZE, len(true), *map(len, parts))
        subsets = _KID_SUBSETS if size < max(len(true), *map(len, parts)) else 1
        rng = torch.Generator().manual_seed(self.seed)
        distances = [frechet_distance(true, part) for part in parts]
        kernels = [float(kernel_distance(true, part, subsets, size, rng).mean()) for part in parts]
        return {
            frechet: MetricResult(float(np.mean(distances)), n=len(made), details=about | {"each": distances}),
            kernel: MetricResult(float(np.mean(kernels)), n=len(made), details=about | {"each": kernels}),
        }

    def _clip_scores(self, images: Sequence[ImageFile]) -> dict[str, MetricResult]:
        held: Held[Embedder] = Held(TransformersCLIP(str(self.clip)))
        embeds, kept = self._features(held, [image.path for image in images], "images, CLIP score")
        chosen = [images[place] for place in kept]
        texts = [_PREFIX + image.item.prompt for image in chosen]
        device = torch.device(self.device)
        written = [
            held.texts(texts[i : i + EMBEDDED_TOGETHER], device).cpu() for i in range(0, len(texts), EMBEDDED_TOGETHER)
        ]
        scores = clip_score(embeds, torch.cat(written)).double().numpy()
        details = {"network": held.network.name, "sha256": held.network.sha256, "prefix": _PREFIX}
        found = {}
        for name, weight in SCALINGS.items():
            figure = Figure((weight * scores, np.ones_like(scores)), len(scores), weight)
            result = figure.result([image.item.key for image in chosen], np.random.default_rng(self.seed))
            found[name] = MetricResult(result.value, result.low, result.high, result.n, details | {"weight": weight})
        return found

    def _features(self, held: Held[Any], paths: Sequence[Path], what: str) -> tuple[Tensor, list[int]]:
        """Return the features (N, F) float32 of the images that can be read, and their places."""
        features, kept = [], []
        with Shown(what, len(paths)) as shown:
            for places, batch in _batches(paths):
                features.append(held.images(batch.to(self.device)).cpu())
                kept += places
                shown(len(places))
        return (torch.cat(features) if features else torch.zeros(0, 1)), kept


def _batches(paths: Sequence[Path]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield places and images (B, 3, H, W) float in [-1, 1] of one size; those that cannot be read are left out."""
    for _, group in groupby(_read(paths), key=lambda image: tuple(image[1].shape)):
        batch: list[tuple[int, Tensor]] = []
        for image in group:
            batch.append(image)
            if len(batch) == EMBEDDED_TOGETHER:
                yield [place for place, _ in batch], torch.stack([pixels for _, pixels in batch])
                batch = []
        if batch:
            yield [place for place, _ in batch], torch.stack([pixels for _, pixels in batch])


def _read(paths: Sequence[Path]) -> Iterator[tuple[int, Tensor]]:
    for place, path in enumerate(paths):
        try:
            yield place, from_pil(as_rgb(read_picture(path)))
        except (OSError, ValueError):
            continue
