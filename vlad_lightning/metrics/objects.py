"""Object metrics: whether an image shows the requested objects, with their colour, shape and position.

A detector finds the objects (:class:`ObjectFinder`). The results are only as good as the detector, so report its
results on true posters with them. How the results are protected against being inflated:

- Each found object is matched to at most one request.
- A found object with neither the requested colour nor the requested shape matches nothing, wherever it is.
- A request without a matched object counts as wrong in every result; no result averages over the matched ones only.
- Many objects in all colours do raise ``object_presence``, so ``object_extra`` counts those that nobody asked for.
- The details of each result hold the score of the same images with other prompts of the batch, its chance level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vlad_lightning.layout.object_requests import RequestedObject, requested_objects, unknown_objects
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.layout import in_region
from vlad_lightning.metrics.per_image import PromptMetric, Share
from vlad_lightning.types import MetricResult

# Values of a match in colour and shape, in one of them, and in position: one full match counts more than two half ones.
_ALL, _ONE, _POSITION = 4.0, 1.0, 0.5

SHARES = {
    "object_presence": ("present", "asked"),
    "object_colour": ("colours_right", "colours"),
    "object_shape": ("shapes_right", "asked"),
    "object_position": ("places_right", "places"),
    "object_binding": ("all_right", "asked"),
}
"""The columns of each result: those of the numerator and of the denominator."""

_COLUMNS = ("asked", "present", "colours", "colours_right", "shapes_right", "places", "places_right", "all_right")


@runtime_checkable
class ObjectFinder(Protocol):
    """A detector of coloured objects in images.

    Attributes:
        name: part of the details of every result.
        sha256: hash of the weights, in the details of every result.
        nouns: the objects that it knows; requests for others count as ``unknown``.
    """

    name: str
    sha256: str
    nouns: tuple[str, ...]

    def detect(self, images: Tensor) -> list[tuple[FoundObject, ...]]:
        """Find the objects in each of (B, 3, H, W) float images in [-1, 1]."""
        ...


def match_objects(wanted: Sequence[RequestedObject], found: Sequence[FoundObject]) -> list[FoundObject | None]:
    """Pair requests and found objects one to one so that they agree as much as possible.

    Shape or colour must agree. The position only decides between objects that agree equally well.

    Args:
        wanted: the objects that a prompt asks for.
        found: the objects in its image.

    Returns:
        For each request its found object, or None.
    """
    value = np.array([[_agreement(request, candidate) for candidate in found] for request in wanted])
    paired: list[FoundObject | None] = [None] * len(wanted)
    if value.size:
        for i, j in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            paired[i] = found[j] if value[i, j] > 0 else None
    return paired


def object_row(wanted: Sequence[RequestedObject], found: Sequence[FoundObject]) -> dict[str, int]:
    """Return the row of one image for :class:`ObjectMetrics`, by the names of its columns."""
    paired = match_objects(wanted, found)
    row = dict.fromkeys(_COLUMNS, 0)
    for request, match in zip(wanted, paired, strict=True):
        shape = match is not None and match.shape == request.name
        colour = match is not None and match.colour == request.colour
        position = match is not None and _placed(request, match, paired)
        row["asked"] += 1
        row["present"] += match is not None
        row["shapes_right"] += shape
        row["colours"] += request.colour is not None
        row["colours_right"] += colour
        row["places"] += request.placed
        row["places_right"] += request.placed and position
        row["all_right"] += shape and (colour or request.colour is None) and position
    return row


class ObjectMetrics(PromptMetric):
    """Metrics of the objects that prompts ask for.

    ===================  ==================================================================================
    ``object_presence``  share of the requested objects that are matched, by colour or shape (:func:`match_objects`)
    ``object_colour``    share of those requested with a colour whose match has it
    ``object_shape``     share of all requested objects whose match has the requested shape
    ``object_position``  share of those requested with a position whose match is there: in the region
                         (:func:`~vlad_lightning.metrics.layout.in_region`), or mainly on that side of the other object
    ``object_binding``   share of all requested objects whose match has the requested shape, colour and position
    ``object_extra``     share of the found objects that no request is matched with
    ===================  ==================================================================================

    A result with nothing to average is left out. ``details`` holds the detector, ``chance`` (the same share with the
    prompt of another image of the batch, if any) and ``unknown`` (how many phrases ask for other objects).

    Args:
        finder: finds the objects.
        seed: seed of the bootstrap.
    """

    columns = (*_COLUMNS, *(f"chance_{name}" for name in _COLUMNS), "found", "unknown")

    def __init__(self, finder: ObjectFinder, seed: int = 0) -> None:
        super().__init__(seed)
        # only the method: as a sub-module, the detector would be saved and trained with this metric
        self._detect = finder.detect
        self._nouns = finder.nouns
        self._detector: dict[str, Any] = {"network": finder.name, "sha256": finder.sha256}

    def compare(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the counts of B images, each with its own prompt and with the next image's."""
        wanted = [requested_objects(prompt, self._nouns) for prompt in prompts]
        others = [*wanted[1:], wanted[0]] if len(wanted) > 1 else [()]
        rows = []
        for prompt, own, other, found in zip(prompts, wanted, others, self._detect(images), strict=True):
            counts = (len(found), len(unknown_objects(prompt, self._nouns)))
            rows.append([*object_row(own, found).values(), *object_row(other, found).values(), *counts])
        return torch.tensor(rows)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares of :data:`SHARES` and of ``object_extra``."""
        shares = {name: Share(table[part], table[whole]) for name, (part, whole) in SHARES.items()}
        if table["asked"].any():
            shares["object_extra"] = Share(table["found"] - table["present"], table["found"])
        return shares

    def compute(self) -> dict[str, MetricResult]:
        """Return every result by name."""
        table, rng = self.table(), self.generator()
        unknown = int(table["unknown"].sum())
        results = {}
        for name, (part, whole) in SHARES.items():
            if table[whole].any():
                details = self._detector | {"chance": _chance(table, part, whole), "unknown": unknown}
                results[name] = replace(ratio_result(table[part], table[whole], rng), details=details)
        if results and table["found"].any():
            extra = ratio_result(table["found"] - table["present"], table["found"], rng)
            results["object_extra"] = replace(extra, details=dict(self._detector))
        return results


def _agreement(request: RequestedObject, found: FoundObject) -> float:
    """Return how well a found object agrees with a request; 0 if neither shape nor colour agrees."""
    shape, colour = found.shape == request.name, found.colour == request.colour
    if not (shape or colour):
        return 0.0
    base = _ALL if shape and (colour or request.colour is None) else _ONE
    placed = request.region is not None and in_region(found.x, found.y, request.region)
    return base + _POSITION * placed


def _placed(request: RequestedObject, found: FoundObject, paired: Sequence[FoundObject | None]) -> bool:
    """Return whether a found object is where its request asks for it; True for a request without a position."""
    if request.region is not None:
        return in_region(found.x, found.y, request.region)
    if request.relation is None:
        return True
    side, index = request.relation
    other = paired[index]
    return other is not None and _side(found.x - other.x, found.y - other.y) == side


def _side(dx: float, dy: float) -> str:
    """Return the main direction of an offset."""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def _chance(table: dict[str, NDArray[np.float64]], part: str, whole: str) -> float | None:
    total = float(table[f"chance_{whole}"].sum())
    return float(table[f"chance_{part}"].sum()) / total if total else None
