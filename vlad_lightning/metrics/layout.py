"""Metrics of layouts: against the true boxes, without a reference, and against the positions in the prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.layout.masks import fills_frame
from vlad_lightning.layout.prompt_parser import PromptDecomposer, bare_phrase, comparable, region_of, requested_phrases
from vlad_lightning.metrics import polygons
from vlad_lightning.metrics.per_image import PerImageMetric, Share
from vlad_lightning.types import Layout

SHARES = {
    "iou": ("iou", "true_boxes", "true_boxes"),
    "overlap": ("covered", "area", "words"),
    "out_of_bounds": ("outside", "area", "words"),
    "position_accuracy": ("met", "placed", "placed"),
    "overlap_share": ("crowded", "layouts", "layouts"),
    "object_iou": ("object_iou", "true_objects", "true_objects"),
    "object_position": ("object_met", "true_objects", "true_objects"),
    "moved": ("moved", "boxes", "boxes"),
}
"""The columns of each result: those of the numerator, of the denominator, and of the number of items."""


def rotated_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Compute the intersection over union of rotated boxes, pair by pair.

    Args:
        predicted: (N, 5) float, as ``Layout.boxes``; the frame's sides have length 1.
        truth: (N, 5) float.

    Returns:
        (N,) float64 in [0, 1].
    """
    return torch.from_numpy(polygons.iou(_polygons(predicted), _polygons(truth)))


def overlap_areas(boxes: Tensor) -> tuple[float, float]:
    """Return the words' area that other words of the same layout cover, and the words' whole area.

    Args:
        boxes: (N, 5) float, as ``Layout.boxes``.

    Returns:
        Both as shares of the frame, summed over words; an area that two words share counts for both.
    """
    words = _polygons(boxes)
    return float(polygons.covered_areas(words).sum()), float(polygons.areas(words).sum())


def outside_area(boxes: Tensor) -> float:
    """Return the words' area outside the frame, as a share of the frame.

    Args:
        boxes: (N, 5) float, as ``Layout.boxes``.
    """
    words = _polygons(boxes)
    return float((polygons.areas(words) - polygons.shared_areas(words, polygons.FRAME)).sum())


def in_region(x: float, y: float, region: str) -> bool:
    """Return whether a point lies in a region that a prompt asks for.

    Only the sides that the region names have to match: ``top`` is the whole upper third, ``left`` the whole left third,
    ``top left`` the ninth that they share, ``center`` the middle ninth.

    Args:
        x: fraction of the width.
        y: fraction of the height.
        region: one of ``layout.prompt_parser.REGIONS``.
    """
    found = region_of(x, y)
    return set(region.split()) <= set(found.split())


def positions_met(prompt: str, layout: Layout) -> tuple[int, int]:
    """Return how many quoted phrases are where the prompt asks for them, and for how many it asks for a position.

    A phrase's position is the centre of its words' common bounding box, since the words of several lines may lie in
    different regions. Words are matched in their ``comparable`` form, equal words of prompt and layout in their order;
    a phrase with a word that the layout lacks counts as wrong.
    """
    found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for word, quad in zip(layout.words, _corners(layout.boxes), strict=True):
        found[comparable(word)].append(quad)
    wanted = requested_phrases(prompt)
    met = 0
    for words, region in wanted:
        quads = [found[comparable(word)].pop(0) if found[comparable(word)] else None for word in words]
        if all(quad is not None for quad in quads):
            corners = np.concatenate([quad for quad in quads if quad is not None])
            x, y = (corners.min(axis=0) + corners.max(axis=0)) / 2
            met += in_region(x, y, region)
    return met, len(wanted)


def any_overlap(boxes: Tensor, allowed: float = 0.05) -> bool:
    """Return whether any two words share more than ``allowed`` of the smaller one's area.

    Args:
        boxes: (N, 5) float, as ``Layout.boxes``.
        allowed: a share in [0, 1].
    """
    words = _polygons(boxes)
    first, second = (words[rows] for rows in np.triu_indices(len(words), 1))
    smaller = np.minimum(polygons.areas(first), polygons.areas(second))
    return bool((polygons.shared_areas(first, second) > allowed * smaller).any())


def objects_met(prompt: str, layout: Layout, truth: Tensor, known: Tensor) -> tuple[float, int]:
    """Return the objects' summed intersection over union with their true boxes, and how many are in the same ninth.

    Args:
        prompt: box i of ``truth`` belongs to its i-th object phrase.
        layout: each of its objects is matched to the first phrase with its text that is not taken yet.
        truth: (K, 5) float.
        known: (K,) bool: where the true box is known; a known object that the layout lacks counts as missed.
    """
    slots = [bare_phrase(phrase.text) for phrase in PromptDecomposer()(prompt).objects]
    summed, met = 0.0, 0
    for name, box in zip(map(bare_phrase, layout.objects), layout.object_boxes.cpu(), strict=True):
        slot = slots.index(name) if name in slots else len(truth)
        if slot < len(truth) and known[slot]:
            summed += rotated_iou(box[None], truth[slot][None]).item()
            met += region_of(*box[:2].tolist()) == region_of(*truth[slot][:2].tolist())
        if slot < len(slots):
            slots[slot] = ""
    return summed, met


class LayoutMetrics(PerImageMetric):
    """Metrics of predicted layouts.

    =====================  ================================================================================
    ``iou``                mean over the words with a true box of the rotated boxes' intersection over union
    ``overlap``            share of the words' area that other words of the same layout cover
    ``overlap_share``      share of the layouts in which two words share over 5 % of the smaller one
    ``out_of_bounds``      share of the words' area outside the frame
    ``position_accuracy``  share of the quoted phrases with a position in the prompt that are there
    ``object_iou``         as ``iou``, over the objects with a true box
    ``object_position``    share of the objects with a true box that are in the same ninth of the frame
    ``moved``              share of the boxes, words and objects, that were moved off others or into the frame
    =====================  ================================================================================

    A result with nothing to average is left out. Objects' boxes that fill the frame, as backgrounds' do, do not count.
    """

    columns = (
        *("iou", "true_boxes", "covered", "outside", "area", "words", "met", "placed", "crowded", "layouts"),
        *("object_iou", "object_met", "true_objects", "moved", "boxes"),
    )

    def update(
        self,
        predicted: Sequence[Layout],
        prompts: Sequence[str],
        truth_boxes: Tensor,
        truth_mask: Tensor,
        truth_objects: Tensor | None = None,
        truth_object_mask: Tensor | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        """Score B layouts.

        Args:
            predicted: B layouts; word i belongs to true box i.
            prompts: B prompts.
            truth_boxes: (B, N, 5) float, as ``Batch.word_boxes``.
            truth_mask: (B, N) bool: where the true box is known; a known word that the layout lacks has an IoU of 0.
            truth_objects: (B, K, 5) float, as ``Batch.object_boxes``; None leaves the objects out.
            truth_object_mask: (B, K) bool: where the true box is known; None leaves the objects out.
            keys: B names, or none.

        Raises:
            ValueError: if their numbers differ, or only one of ``truth_objects`` and ``truth_object_mask`` is given.
        """
        if (truth_objects is None) != (truth_object_mask is None):
            raise ValueError("one of truth_objects and truth_object_mask is None; both must be, or neither")
        if truth_objects is None or truth_object_mask is None:
            truth_objects, truth_object_mask = truth_boxes.new_zeros(len(truth_boxes), 0, 5), truth_mask[:, :0]
        given = (truth_boxes, truth_mask, truth_objects, truth_object_mask)
        sizes = (len(predicted), len(prompts), *(len(truth) for truth in given))
        if len(set(sizes)) > 1:
            raise ValueError(f"predicted, prompts and the truths have {sizes} entries; need equal numbers")
        truth_object_mask = truth_object_mask & ~fills_frame(truth_objects)  # a box of the whole frame is trivial
        given = (truth_boxes, truth_mask, truth_objects, truth_object_mask)
        truths = zip(*(truth.cpu() for truth in given), strict=True)
        rows = [
            [
                *(*_truth_row(layout, boxes, mask), *_own_row(layout), *positions_met(prompt, layout)),
                *(any_overlap(layout.boxes), 1, *objects_met(prompt, layout, objects, known), known.sum().item()),
                *(layout.moved, len(layout) + int((~fills_frame(layout.object_boxes)).sum())),
            ]
            for layout, prompt, (boxes, mask, objects, known) in zip(predicted, prompts, truths, strict=True)
        ]
        self.append(torch.tensor(rows).view(-1, len(self.columns)), keys)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares of :data:`SHARES`."""
        return {
            name: Share(table[part], table[whole], n=int(table[counted].sum()))
            for name, (part, whole, counted) in SHARES.items()
        }


def _corners(boxes: Tensor) -> NDArray[np.float64]:
    """Return the corners (N, 4, 2), as :meth:`~vlad_lightning.types.Layout.quads` does."""
    boxes = boxes.detach().cpu().double()
    corners: NDArray[np.float64] = Layout(("",) * len(boxes), boxes).quads().numpy()
    return corners


def _polygons(boxes: Tensor) -> polygons.Polygons:
    return polygons.polygons_of(_corners(boxes))


def _truth_row(layout: Layout, boxes: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return the summed IoU over the words with a true box, and their number."""
    known = mask[: len(layout)].cpu()
    pairs = layout.boxes[: len(known)].cpu()[known], boxes[: len(known)][known]
    return rotated_iou(*pairs).sum().item(), mask.sum().item()


def _own_row(layout: Layout) -> tuple[float, float, float, int]:
    """Return covered area, area outside the frame, whole area, and number of words."""
    covered, total = overlap_areas(layout.boxes)
    return covered, outside_area(layout.boxes), total, len(layout)
