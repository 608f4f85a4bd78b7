"""Thumbnails of scored images for a report: the best, the median and the worst, with what a reader saw."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlad_lightning.evaluation.figures import is_lower_better
from vlad_lightning.evaluation.figures_file import ImageFigures
from vlad_lightning.evaluation.row_file import Row
from vlad_lightning.evaluation.scored_system import ScoredSystem
from vlad_lightning.files import as_rgb, read_picture

KINDS = ("best", "median", "worst")
"""The kinds of images that are shown."""

_SIDE = 192  # pixels of a thumbnail's longer side
_QUALITY = 75


@dataclass(frozen=True)
class Thumbnail:
    """An image in a report.

    Attributes:
        system: the system's name.
        kind: one of :data:`KINDS`.
        key: the prompt's key.
        number: which of its images it is.
        subset: the prompt's subset.
        prompt: the prompt.
        value: the image's own value of the report's figure; None if it has none.
        lines: what the reader read.
        boxes: for each word its text, and its corners in fractions of the frame as ``x,y x,y x,y x,y``.
        width: width of the thumbnail in pixels.
        height: its height.
        data: the thumbnail, a data address.
    """

    system: str
    kind: str
    key: str
    number: int
    subset: str
    prompt: str
    value: float | None
    lines: tuple[str, ...]
    boxes: tuple[tuple[str, str], ...]
    width: int
    height: int
    data: str


def thumbnails(system: ScoredSystem, reader: str, figure: str, each: int) -> list[Thumbnail]:
    """Return images of a system; none of images that are not there any more.

    Args:
        system: the system.
        reader: whose boxes and values are shown.
        figure: the figure by whose value of an image they are chosen.
        each: how many of each kind; each subset has the same share of them, and at least one.
    """
    rows = {(row["key"], int(row["number"])): row for row in system.rows(reader) if not row["problem"]}
    images = system.figures[reader]
    subsets = list(dict.fromkeys(images.subsets))
    found = []
    for subset in subsets:
        part = images.of_subset(subset)
        for kind, places in _chosen(_values(part, figure), max(1, each // len(subsets))).items():
            for place, value in places:
                image = (part.keys[place], part.numbers[place])
                if image in rows and (made := _thumbnail(system, rows[image], kind, value)):
                    found.append(made)
    return found


def _values(images: ImageFigures, figure: str) -> list[tuple[int, float]]:
    """Return place and value of each image that has a value, the best first; equal ones in a fixed mixed order."""
    if figure not in images.figures:
        return []
    chosen = images.figures[figure]
    columns = np.stack(chosen.columns, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = chosen.statistic(*(columns[:, i, None] for i in range(columns.shape[1])), axis=-1)
    mixed = np.random.default_rng(0).permutation(len(values))
    sign = 1 if is_lower_better(figure) else -1
    places = sorted((int(i) for i in mixed if np.isfinite(values[i])), key=lambda i: sign * values[i])
    return [(place, float(values[place])) for place in places]


def _chosen(values: Sequence[tuple[int, float]], each: int) -> dict[str, list[tuple[int, float]]]:
    """Return those of each kind; an image is of one kind only."""
    each = min(each, (len(values) + 2) // 3)
    worst = list(values[max(len(values) - each, each) :])
    middle = max((len(values) - each) // 2, each)
    median = [value for value in values[middle : middle + each] if value not in worst]
    return {"best": list(values[:each]), "median": median, "worst": worst}


def _thumbnail(system: ScoredSystem, row: Row, kind: str, value: float) -> Thumbnail | None:
    try:
        image = as_rgb(read_picture(system.images / row["file"]))
    except (OSError, ValueError):
        return None
    image.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    image.save(content, "webp", quality=_QUALITY)
    told: Mapping[str, Any] = system.prompts[row["key"]]
    return Thumbnail(
        system.name,
        kind,
        row["key"],
        int(row["number"]),
        row["subset"],
        told["prompt"],
        value,
        tuple(json.loads(row["lines"])),
        tuple((word[0], _points(word[2:])) for word in json.loads(row["words"])),
        image.width,
        image.height,
        "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode(),
    )


def _points(corners: Sequence[float]) -> str:
    return " ".join(f"{100 * x:.2f},{100 * y:.2f}" for x, y in zip(corners[::2], corners[1::2], strict=True))
