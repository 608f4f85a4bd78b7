"""What INNOVATOR-Eval mini measures from pixels and with the shipped detector: objects, grounds, colours of letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.evaluation.suite import Item, Seen
from vlad_lightning.evaluation.suites.object_finder import find_objects, read_pixels
from vlad_lightning.evaluation.suites.word_places import find_texts
from vlad_lightning.layout.masks import box_masks
from vlad_lightning.layout.object_requests import RequestedObject
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.colour import border_colours
from vlad_lightning.metrics.objects import SHARES, object_row
from vlad_lightning.metrics.per_image import Share
from vlad_lightning.metrics.word_colour import ink_colours
from vlad_lightning.types import Layout

_RING = 6  # pixels: at least this much around a word shows the ground that it stands on

Table = Mapping[str, NDArray[np.float64]]


class ObjectMeasure:
    """The results of :class:`~vlad_lightning.metrics.objects.ObjectMetrics`, and ``object_count``.

    ``object_count`` is the share of the phrases with a number (``three red cars``) for which exactly that many of these
    objects are found, in that colour.
    """

    name = ""
    columns: tuple[str, ...] = (
        *("object_asked", "object_present", "object_colours", "object_colours_right", "object_shapes_right"),
        *("object_places", "object_places_right", "object_all_right"),
        *("object_found", "object_counts", "object_counts_right"),
    )

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        found = find_objects(_pixels(seen.path))
        wanted = requested(item.facts)
        counts = {f"object_{name}": value for name, value in object_row(wanted, found).items()}
        numbers = [thing for thing in item.facts["objects"] if thing["count"] > 1]
        counts["object_found"], counts["object_counts"] = len(found), len(numbers)
        counts["object_counts_right"] = sum(_as_many(thing, found) for thing in numbers)
        return {name: float(counts[name]) for name in self.columns}

    def shares(self, table: Table) -> dict[str, Share]:
        """Return the shares."""
        shares = {
            name: Share(table[f"object_{part}"], table[f"object_{whole}"]) for name, (part, whole) in SHARES.items()
        }
        shares["object_extra"] = Share(table["object_found"] - table["object_present"], table["object_found"])
        shares["object_count"] = Share(table["object_counts_right"], table["object_counts"])
        return shares


class ColourMeasure:
    """``background_colour``, and ``word_colour``: share of the words with a colour that are read and have it."""

    name = ""
    columns: tuple[str, ...] = ("grounds", "grounds_right", "inks", "inks_right")

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        pixels = _pixels(seen.path)
        ground = item.facts.get("background")
        right = ground is not None and border_colours(pixels[None])[0] == ground
        texts = item.facts["texts"]
        asked = [
            (text["colour"], word)
            for text, found in zip(texts, find_texts(texts, seen.words), strict=True)
            if "colour" in text
            for word in found
        ]
        read = [(colour, word) for colour, word in asked if word is not None]
        inks = letter_colours(pixels, [word for _, word in read])
        matches = sum(colour == ink for (colour, _), ink in zip(read, inks, strict=True))
        return dict(zip(self.columns, map(float, (ground is not None, right, len(asked), matches)), strict=True))

    def shares(self, table: Table) -> dict[str, Share]:
        """Return the shares."""
        return {
            "background_colour": Share(table["grounds_right"], table["grounds"]),
            "word_colour": Share(table["inks_right"], table["inks"]),
        }


def requested(facts: Mapping[str, Any]) -> tuple[RequestedObject, ...]:
    """Return the objects of an item one by one; a relation to several refers to the first of them."""
    objects: list[RequestedObject] = []
    first: list[int] = []
    for thing in facts["objects"]:
        first.append(len(objects))
        objects += [RequestedObject(thing["name"], thing.get("colour"), thing.get("place"))] * thing["count"]
    for index, side, other in facts["relations"]:
        for i in range(first[index], first[index] + facts["objects"][index]["count"]):
            objects[i] = replace(objects[i], relation=(side, first[other]))
    return tuple(objects)


def letter_colours(pixels: Tensor, words: Sequence[OcrWord]) -> list[str]:
    """Return the palette colour of the letters of words, from where the reader found them.

    As :func:`~vlad_lightning.metrics.word_colour.ink_colours`, with the words' boxes in the place of their letters: the
    ground is what surrounds a box, and the letters are what is furthest from its colour inside.

    Args:
        pixels: (3, H, W) float in [-1, 1].
        words: the words read.
    """
    if not words:
        return []
    size = (pixels.shape[1], pixels.shape[2])
    quads = torch.from_numpy(np.stack([word.quad for word in words]).astype(np.float32))
    layout = Layout.from_quads([word.text for word in words], quads)
    boxes = layout.boxes.clone()
    boxes[:, 2:4] += torch.maximum(boxes[:, 3:4], torch.tensor(2 * _RING / min(size)))
    inside = box_masks(layout.boxes[:, None], torch.ones(len(layout), 1, dtype=torch.bool), size)[:, 0]
    glyphs = inside.any(dim=0, keepdim=True).float() * 2 - 1
    return ink_colours(pixels, glyphs, Layout(layout.words, boxes))


def _as_many(thing: Mapping[str, Any], found: Sequence[FoundObject]) -> bool:
    alike = [one for one in found if one.shape == thing["name"] and one.colour == thing.get("colour", one.colour)]
    return len(alike) == thing["count"]


@lru_cache(maxsize=1)
def _pixels(path: Path) -> Tensor:
    """Read an image once for several measures, (3, H, W) float in [-1, 1]."""
    return read_pixels(path)
