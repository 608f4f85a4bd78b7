"""GenEval's schema and rule (arXiv 2310.11513) for the objects of the synthetic domain, with the shipped detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.evaluation.suite import Item, Seen, Suite
from vlad_lightning.evaluation.suites.object_finder import DETECTED, find_objects, read_pixels
from vlad_lightning.evaluation.suites.prompt_files import Entry, checked_object, field, needed_path, read_json_lines
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.object_requests import RequestedObject
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.limits import shown
from vlad_lightning.metrics.objects import object_row
from vlad_lightning.metrics.per_image import Share

RELATIONS = {"left of": "left", "right of": "right", "above": "above", "below": "below"}

_IMAGES = 4
_THRESHOLD = 0.1  # share of both boxes' sides by which an offset is shortened
_DEFINITION = (
    "GenEval, arXiv 2310.11513, its schema and its rule; the objects are those of the synthetic domain, found by the "
    "detector that ships with this project (GenEval: Mask2Former on COCO's classes, colours by CLIP, another threshold "
    "for counting). geneval_correct is over images, geneval_score the mean over the tags. The rule looks at colour and "
    "place of the most confident objects of a class only, and other objects cost nothing: geneval_binding pairs each "
    "object found with at most one object asked for, and geneval_extra is the share that nobody asked for."
)


def relative_positions(first: FoundObject, second: FoundObject) -> set[str]:
    """Return where an object is relative to another, by GenEval's rule: none, one or two of :data:`RELATIONS`.

    The offset of the centres, shortened on each axis by a tenth of the sum of both boxes' sides, counts on an axis if
    it is over half of the whole offset.
    """
    offset = np.array([first.x - second.x, first.y - second.y])
    sides = np.array([first.width + second.width, first.height + second.height])
    shortened = np.maximum(np.abs(offset) - _THRESHOLD * sides, 0) * np.sign(offset)
    length = float(np.linalg.norm(offset))
    if not shortened.any() or not length:
        return set()
    dx, dy = shortened / length
    named = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in named.items() if holds}


def geneval_correct(entry: Entry, found: Sequence[FoundObject]) -> bool:
    """Return whether an image is correct by GenEval's rule.

    Args:
        entry: with ``include`` and ``exclude``, as in GenEval's list.
        found: the objects found, the most confident first.
    """
    by_class: dict[str | None, list[FoundObject]] = {}
    for one in found:
        by_class.setdefault(one.shape, []).append(one)
    groups: list[list[FoundObject]] = []  # an empty one where a request is not met
    for request in entry["include"]:
        group = by_class.get(request["class"], [])[: request["count"]]
        groups.append(group if _met(request, group, groups) else [])
    counts = {shape: len(group) for shape, group in by_class.items()}
    excluded = any(counts.get(request["class"], 0) >= request["count"] for request in entry.get("exclude", ()))
    return all(groups) and not excluded


def _met(request: Entry, group: Sequence[FoundObject], groups: Sequence[Sequence[FoundObject]]) -> bool:
    count = request["count"]
    if len(group) < count:
        return False
    if "color" in request and sum(one.colour == request["color"] for one in group) < count:
        return False
    if "position" in request:
        relation, target = request["position"]
        others = groups[target]
        return bool(others) and all(relation in relative_positions(one, other) for one in group for other in others)
    return True


def requested(entry: Entry) -> tuple[RequestedObject, ...]:
    """Return the objects that an entry asks for, one by one; a position refers to the first object of its target."""
    objects: list[RequestedObject] = []
    first: list[int] = []
    for request in entry["include"]:
        first.append(len(objects))
        relation = None
        if "position" in request:
            side, target = request["position"]
            relation = (RELATIONS[side], first[target])
        objects += [RequestedObject(request["class"], request.get("color"), None, relation)] * request["count"]
    return tuple(objects)


class GenevalMeasure:
    """GenEval's figures, and those of one-to-one pairs, see :func:`~vlad_lightning.metrics.objects.object_row`.

    ====================  ======================================================================
    ``geneval_correct``   share of the images that are correct by :func:`geneval_correct`
    ``geneval_score``     mean over the tags of that share
    ``geneval_binding``   share of the objects asked for with their class, colour and position
    ``geneval_extra``     share of the objects found that nobody asked for
    ====================  ======================================================================

    Args:
        prompts_of_tag: how many prompts each tag has.
    """

    name = ""
    columns: tuple[str, ...] = (
        "correct",
        "tag_weight",
        "objects_asked",
        "objects_bound",
        "objects_found",
        "objects_present",
    )

    def __init__(self, prompts_of_tag: Mapping[str, int]) -> None:
        self._prompts_of_tag = dict(prompts_of_tag)

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the numbers of one image."""
        found = find_objects(read_pixels(seen.path))
        counts = object_row(requested(item.facts), found)
        numbers = (
            geneval_correct(item.facts, found),
            1 / self._prompts_of_tag[item.subset],
            *(counts["asked"], counts["all_right"], len(found), counts["present"]),
        )
        return dict(zip(self.columns, map(float, numbers), strict=True))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares; the mean over tags is a share in which each image has its tag's weight."""
        correct, weight = table["correct"], table["tag_weight"]
        return {
            "geneval_correct": Share(correct, np.ones_like(correct)),
            "geneval_score": Share(correct * weight, weight, n=len(correct)),
            "geneval_binding": Share(table["objects_bound"], table["objects_asked"]),
            "geneval_extra": Share(table["objects_found"] - table["objects_present"], table["objects_found"]),
        }


def read_geneval(prompts: Path | None) -> Suite:
    """Read a list in GenEval's schema.

    Args:
        prompts: a file of JSON lines: ``{"tag", "include": [{"class", "count", "color"?, "position"?}], "exclude"?,
            "prompt"}``, with classes that the shipped detector knows.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming a line that has another form, or a class or colour that is not known.
    """
    path = needed_path(prompts, "geneval-mini", "a .jsonl file in GenEval's schema")
    items = []
    for number, (place, entry) in enumerate(read_json_lines(path)):
        facts = _checked(entry, place)
        tag = field(entry, "tag", str, place)
        items.append(Item(f"{number:05d}", field(entry, "prompt", str, place), tag, (), facts))
    measure = GenevalMeasure(Counter(item.subset for item in items))
    return Suite("geneval-mini", tuple(items), (measure,), _IMAGES, _DEFINITION)


def _checked(entry: Entry, place: str) -> dict[str, Any]:
    """Return what is to be included and excluded."""
    facts: dict[str, Any] = {"include": [], "exclude": []}
    include = field(entry, "include", list, place)
    if not include:
        raise ValueError(f"{place}: include is empty; it must name an object")
    for name in facts:
        for request in entry.get(name) or ():
            _check_request(checked_object(request, f"{place}, {name}"), len(facts[name]), f"{place}, {name}")
            facts[name].append(dict(request))
    return facts


def _check_request(request: Entry, index: int, place: str) -> None:
    name, count = field(request, "class", str, place), field(request, "count", int, place)
    if name not in DETECTED:
        raise ValueError(f"{place}: class is {name!r}; the shipped detector knows {', '.join(DETECTED)}")
    if count < 1:
        raise ValueError(f"{place}: count is {count}; it must be at least 1")
    if "color" in request and request["color"] not in tuple(PALETTE):
        raise ValueError(f"{place}: color is {shown(request['color'])}; allowed are {', '.join(PALETTE)}")
    if "position" in request and not _is_position(request["position"], index):
        told = f"[one of {', '.join(RELATIONS)}; the index of an earlier object]"
        raise ValueError(f"{place}: position is {shown(request['position'])}; it must be {told}")


def _is_position(position: object, index: int) -> bool:
    if not isinstance(position, list) or len(position) != 2:
        return False
    side, target = position
    named = isinstance(side, str) and side in RELATIONS
    return named and isinstance(target, int) and not isinstance(target, bool) and 0 <= target < index
