"""Whether a picture shows the objects that its prompt asks for: present, of the right colour, shape and place, at once.

A detector says what stands where (:class:`ObjectFinder`); every result is as good as it, so its results on true posters
belong beside them. What cannot raise a result, and why:

- One thing on the picture answers one request at most.
- A thing of neither the colour nor the shape that is asked for answers nothing, wherever it stands.
- A request whose thing is not there counts as wrong in every result: none is taken over the present ones alone.
- Many things of all colours do raise the presence, so ``object_extra`` counts those that nobody asked for.
- Each result has in its details what the same pictures score with other prompts of the batch: its level by chance.
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

# Agreement in all that is told, in one of two things, in the place: one right thing is worth more than two half ones.
_ALL, _ONE, _PLACE = 4.0, 1.0, 0.5

SHARES = {
    "object_presence": ("present", "asked"),
    "object_colour": ("colours_right", "colours"),
    "object_shape": ("shapes_right", "asked"),
    "object_position": ("places_right", "places"),
    "object_binding": ("all_right", "asked"),
}
"""What each result is a share of: the columns of its parts and of its whole."""

_COLUMNS = ("asked", "present", "colours", "colours_right", "shapes_right", "places", "places_right", "all_right")


@runtime_checkable
class ObjectFinder(Protocol):
    """Finds coloured shapes on pictures.

    Attributes:
        name: stands in the details of every result.
        sha256: of its weights; likewise.
    """

    name: str
    sha256: str

    def detect(self, images: Tensor) -> list[tuple[FoundObject, ...]]:
        """(B, 3, H, W) float in [-1, 1] -> the objects on each of B pictures."""
        ...


def match_objects(wanted: Sequence[RequestedObject], found: Sequence[FoundObject]) -> list[FoundObject | None]:
    """Pair requests and things one to one so that they agree as much as possible.

    Shape or colour must agree. The place only decides between things that agree equally well.

    Args:
        wanted: what a prompt asks for.
        found: what its picture shows.

    Returns:
        For each request its thing, or None.
    """
    value = np.array([[_agreement(request, thing) for thing in found] for request in wanted])
    paired: list[FoundObject | None] = [None] * len(wanted)
    if value.size:
        for i, j in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            paired[i] = found[j] if value[i, j] > 0 else None
    return paired


def object_row(wanted: Sequence[RequestedObject], found: Sequence[FoundObject]) -> dict[str, int]:
    """What :class:`ObjectMetrics` keeps of one picture, by the names of its columns."""
    paired = match_objects(wanted, found)
    row = dict.fromkeys(_COLUMNS, 0)
    for request, thing in zip(wanted, paired, strict=True):
        shape = thing is not None and thing.shape == request.name
        colour = thing is not None and thing.colour == request.colour
        place = thing is not None and _placed(request, thing, paired)
        row["asked"] += 1
        row["present"] += thing is not None
        row["shapes_right"] += shape
        row["colours"] += request.colour is not None
        row["colours_right"] += colour
        row["places"] += request.placed
        row["places_right"] += request.placed and place
        row["all_right"] += shape and (colour or request.colour is None) and place
    return row


class ObjectMetrics(PromptMetric):
    """The results of the objects that prompts ask for.

    ===================  ==================================================================================
    ``object_presence``  share of the requested objects with a thing of their colour or shape (:func:`match_objects`)
    ``object_colour``    share of those that tell a colour whose thing has it
    ``object_shape``     share of all requested objects whose thing has their shape
    ``object_position``     share of those that tell a place whose thing keeps it: a region as the layouts' results see
    it
                         (:func:`~vlad_lightning.metrics.layout.in_region`), or mainly that side of the other's thing
    ``object_binding``   share of all requested objects whose thing has all that is told of it
    ``object_extra``     share of the things found that no request is paired with
    ===================  ==================================================================================

    A result of nothing is left out. ``details`` holds the detector; ``chance``, the same share with the prompt of
    another picture of the batch, where there is one; and ``unknown``, how many phrases ask for something else.

    Args:
        finder: finds the objects.
        seed: of the bootstrap.
    """

    columns = (*_COLUMNS, *(f"chance_{name}" for name in _COLUMNS), "found", "unknown")

    def __init__(self, finder: ObjectFinder, seed: int = 0) -> None:
        super().__init__(seed)
        self._detect = (
            finder.detect
        )  # a method: as a sub-module, the detector would be saved and trained with this metric
        self._detector: dict[str, Any] = {"network": finder.name, "sha256": finder.sha256}

    def compare(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The counts of B pictures, each also with the prompt of the next one."""
        wanted = [requested_objects(prompt) for prompt in prompts]
        others = [*wanted[1:], wanted[0]] if len(wanted) > 1 else [()]
        rows = []
        for prompt, own, other, found in zip(prompts, wanted, others, self._detect(images), strict=True):
            counts = (len(found), len(unknown_objects(prompt)))
            rows.append([*object_row(own, found).values(), *object_row(other, found).values(), *counts])
        return torch.tensor(rows)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Those of :data:`SHARES`, and that of ``object_extra``."""
        shares = {name: Share(table[part], table[whole]) for name, (part, whole) in SHARES.items()}
        if table["asked"].any():
            shares["object_extra"] = Share(table["found"] - table["present"], table["found"])
        return shares

    def compute(self) -> dict[str, MetricResult]:
        """Every result by name."""
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


def _agreement(request: RequestedObject, thing: FoundObject) -> float:
    """0 where the thing does not answer the request."""
    shape, colour = thing.shape == request.name, thing.colour == request.colour
    if not (shape or colour):
        return 0.0
    base = _ALL if shape and (colour or request.colour is None) else _ONE
    placed = request.region is not None and in_region(thing.x, thing.y, request.region)
    return base + _PLACE * placed


def _placed(request: RequestedObject, thing: FoundObject, paired: Sequence[FoundObject | None]) -> bool:
    """Whether a thing stands where its request wants it; always where it wants it nowhere."""
    if request.region is not None:
        return in_region(thing.x, thing.y, request.region)
    if request.relation is None:
        return True
    side, index = request.relation
    other = paired[index]
    return other is not None and _side(thing.x - other.x, thing.y - other.y) == side


def _side(dx: float, dy: float) -> str:
    """The main direction of a step."""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def _chance(table: dict[str, NDArray[np.float64]], part: str, whole: str) -> float | None:
    total = float(table[f"chance_{whole}"].sum())
    return float(table[f"chance_{part}"].sum()) / total if total else None
