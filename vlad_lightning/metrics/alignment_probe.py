"""Alignment probe: how often an image-text encoder prefers a true caption to an edited one, by kind of edit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.layout.caption_edits import KINDS, edit_caption
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.per_image import PerImageMetric
from vlad_lightning.types import MetricResult

Score = Callable[[Tensor, Sequence[str], Sequence[int]], Tensor]
"""Score of how well texts match images: (images (B, 3, H, W), T texts, index of each text's image) -> (T,) float."""


def preferred(true: Tensor, edited: Tensor) -> Tensor:
    """Return 1 where the true caption scores above the edited one, 0 where below, 1/2 where both score the same.

    Args:
        true: (E,) float.
        edited: (E,) float.

    Returns:
        (E,) float.
    """
    return (true > edited).float() + 0.5 * (true == edited).float()


class AlignmentProbe(PerImageMetric):
    """``alignment_probe_<kind>``: share of the true captions that score above their version with one thing changed.

    0.5 is chance. Captions that a kind of edit cannot change are left out of its share.

    Args:
        score: score function of the encoder that is probed.
        seed: seed of the bootstrap and of the edits, which depend only on it, the kind and the caption's key.
    """

    columns = ("kind", "right")

    def __init__(self, score: Score, seed: int = 0) -> None:
        super().__init__(seed)
        self.score = score

    def update(self, images: Tensor, prompts: Sequence[str], keys: Sequence[str]) -> None:
        """Probe the encoder with B pairs.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            prompts: B true captions; the words to draw are in quotes.
            keys: B names.

        Raises:
            ValueError: if their numbers differ.
        """
        if not len(images) == len(prompts) == len(keys):
            raise ValueError(
                f"{len(images)} images, {len(prompts)} prompts, {len(keys)} keys; as many of each are needed"
            )
        edits = [
            (row, kind, edited)
            for row, (prompt, key) in enumerate(zip(prompts, keys, strict=True))
            for kind, name in enumerate(KINDS)
            if (edited := edit_caption(prompt, name, random.Random(f"{self.seed} {name} {key}"))) is not None
        ]
        if not edits:
            return
        rows, kinds, texts = zip(*edits, strict=True)
        with torch.no_grad():
            scores = self.score(images, [*prompts, *texts], [*range(len(prompts)), *rows])
        right = preferred(scores[list(rows)], scores[len(prompts) :])
        self.append(torch.stack([torch.tensor(kinds, device=scores.device), right], dim=1))

    def compute(self) -> dict[str, MetricResult]:
        """Return the result of each kind that occurred, by name."""
        table = self.table()
        results = {}
        for kind, name in enumerate(KINDS):
            right = table["right"][table["kind"] == kind]
            if len(right):
                results[f"alignment_probe_{name}"] = ratio_result(right, np.ones_like(right), self.generator())
        return results
