"""How good a layout is: against the true boxes, in itself, and against the places that the prompt tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.metrics import polygons
from vlad_lightning.metrics.bootstrap import ratio_figure
from vlad_lightning.metrics.per_image import PerImageMetric
from vlad_lightning.models.prompts import region_of, requested_regions
from vlad_lightning.types import Figure, Layout

_FRAME = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def rotated_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of rotated boxes, pair by pair.

    Args:
        predicted: (N, 5) float, as ``Layout.boxes``; the frame's sides are of length 1.
        truth: (N, 5) float.

    Returns:
        (N,) float64 in [0, 1].
    """
    pairs = zip(_corners(predicted), _corners(truth), strict=True)
    return torch.tensor([polygons.iou(first, second) for first, second in pairs], dtype=torch.float64)


def overlap_areas(boxes: Tensor) -> tuple[float, float]:
    """The area of words that is covered by other words of the same layout, and the words' whole area.

    Args:
        boxes: (N, 5) float, as ``Layout.boxes``.

    Returns:
        Both in shares of the frame, summed over words; what two words share counts for both.
    """
    quads = _corners(boxes)
    covered = [polygons.covered_area(quad, quads[:i] + quads[i + 1 :]) for i, quad in enumerate(quads)]
    return sum(covered), sum(map(polygons.area, quads))


def outside_area(boxes: Tensor) -> float:
    """The words' area outside the frame, in shares of the frame.

    Args:
        boxes: (N, 5) float, as ``Layout.boxes``.
    """
    quads = _corners(boxes)
    return sum(polygons.area(quad) - polygons.area(polygons.intersection(quad, _FRAME)) for quad in quads)


def in_region(x: float, y: float, region: str) -> bool:
    """Whether a point stands where a prompt wants it.

    Every side the region names has to match and no more: ``top`` takes the whole upper third, ``left`` the whole left
    third, ``top left`` their ninth, ``center`` the middle ninth.

    Args:
        x: fraction of the width.
        y: fraction of the height.
        region: one of ``models.prompts.REGIONS``.
    """
    found = region_of(x, y)
    return set(region.split()) <= set(found.split())


def positions_met(prompt: str, layout: Layout) -> tuple[int, int]:
    """How many words stand where the prompt wants them, and how many it wants somewhere.

    Words are matched without case, the first of a kind in the prompt with the first in the layout; one that the layout
    lacks is not met.
    """
    centres: dict[str, list[list[float]]] = defaultdict(list)
    for word, box in zip(layout.words, layout.boxes.tolist(), strict=True):
        centres[word.casefold()].append(box[:2])
    wanted = requested_regions(prompt)
    met = 0
    for word, region in wanted:
        if found := centres[word.casefold()]:
            x, y = found.pop(0)
            met += in_region(x, y, region)
    return met, len(wanted)


class LayoutMetrics(PerImageMetric):
    """The figures of predicted layouts.

    =====================  ================================================================================
    ``iou``                mean over the words with a true box of the rotated boxes' intersection over union
    ``overlap``            share of the words' area that other words of the same layout cover
    ``out_of_bounds``      share of the words' area outside the frame
    ``position_accuracy``  share of the words with a place in the prompt which stand there (:func:`in_region`)
    =====================  ================================================================================

    A figure without anything to average is left out.
    """

    columns = ("iou", "true_boxes", "covered", "outside", "area", "words", "met", "placed")

    def update(
        self, predicted: Sequence[Layout], prompts: Sequence[str], truth_boxes: Tensor, truth_mask: Tensor
    ) -> None:
        """Score B layouts.

        Args:
            predicted: B layouts; word i belongs to true box i.
            prompts: B prompts.
            truth_boxes: (B, N, 5) float, as ``Batch.word_boxes``.
            truth_mask: (B, N) bool: where the true box is known; such a word that the layout lacks has an IoU of 0.

        Raises:
            ValueError: if their numbers differ.
        """
        sizes = (len(predicted), len(prompts), len(truth_boxes), len(truth_mask))
        if len(set(sizes)) > 1:
            raise ValueError(f"predicted, prompts, truth_boxes and truth_mask have {sizes} entries; need equal numbers")
        truths = zip(truth_boxes.cpu(), truth_mask.cpu(), strict=True)
        rows = [
            [*_truth_row(layout, boxes, mask), *_own_row(layout), *positions_met(prompt, layout)]
            for layout, prompt, (boxes, mask) in zip(predicted, prompts, truths, strict=True)
        ]
        self.append(torch.tensor(rows).view(-1, len(self.columns)))

    def compute(self) -> dict[str, Figure]:
        """Every figure by name."""
        table, rng = self.table(), self.generator()
        shares = {
            "iou": ("iou", "true_boxes", "true_boxes"),
            "overlap": ("covered", "area", "words"),
            "out_of_bounds": ("outside", "area", "words"),
            "position_accuracy": ("met", "placed", "placed"),
        }
        return {
            name: ratio_figure(table[part], table[whole], rng, n=int(table[counted].sum()))
            for name, (part, whole, counted) in shares.items()
            if table[whole].any()
        }


def _corners(boxes: Tensor) -> list[polygons.Polygon]:
    boxes = boxes.detach().cpu().double()
    return list(Layout(("",) * len(boxes), boxes).quads().numpy())


def _truth_row(layout: Layout, boxes: Tensor, mask: Tensor) -> tuple[float, float]:
    """Summed IoU over the words with a true box, and how many there are."""
    known = mask[: len(layout)].cpu()
    pairs = layout.boxes[: len(known)].cpu()[known], boxes[: len(known)][known]
    return rotated_iou(*pairs).sum().item(), mask.sum().item()


def _own_row(layout: Layout) -> tuple[float, float, float, int]:
    """Covered area, area outside, whole area, words."""
    covered, total = overlap_areas(layout.boxes)
    return covered, outside_area(layout.boxes), total, len(layout)
