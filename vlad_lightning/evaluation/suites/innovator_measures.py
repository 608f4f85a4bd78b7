"""What INNOVATOR-Eval measures beside the words: exactness, repetitions, silence, places, order, sizes and binding.

All of it comes from what a reader finds; the colours of letters and the objects need pixels and a detector
(``mini_measures``).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.evaluation.suite import Item, Seen
from vlad_lightning.evaluation.suites.word_places import (
    Found,
    box_of,
    find_texts,
    height_of,
    in_reading_order,
    side_of,
)
from vlad_lightning.layout.prompt_parser import comparable
from vlad_lightning.metrics import polygons
from vlad_lightning.metrics.layout import in_region
from vlad_lightning.metrics.ocr import common, readings
from vlad_lightning.metrics.per_image import Share

BIGGER = 1.25
"""Letters are bigger than others if their boxes are at least this many times as high."""

_OVERLAP = 0.25  # of the smaller word's area: readers' boxes of two close lines share up to a fifth on true posters
_RIGHT_TO_LEFT = ("arabic", "hebrew")

Table = Mapping[str, NDArray[np.float64]]


class ExactMeasure:
    """Words as they are written, repetitions, and images that should have no words.

    =====================  ==================================================================================
    ``exact_words``        share of the words read with the same capitals, accents and punctuation (NFC)
    ``case_accuracy``      the same, of the words whose case the prompt asks for
    ``repeat_accuracy``    share of the repeated words that are read exactly as often as they are asked for
    ``text_free``          share of the images without words to draw in which nothing is read
    =====================  ==================================================================================
    """

    name = ""
    columns: tuple[str, ...] = (
        *("exact_wanted", "exact_read", "case_wanted", "case_read", "repeats", "repeats_right"),
        *("silent", "silent_right"),
    )

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        read = [_composed(word) for line in seen.lines for word in line.split()]
        wanted = [_composed(word) for word in item.words]
        cased = [_composed(word) for text in item.facts["texts"] if "case" in text for word in text["words"]]
        copies = {word: count for word, count in Counter(map(comparable, item.words)).items() if count > 1}
        drawn = Counter(readings(seen.lines, item.words))
        right = sum(drawn[word] == count for word, count in copies.items())
        silent = not item.words
        numbers = (
            *(len(wanted), common(read, wanted), len(cased), common(read, cased), len(copies), right),
            *(silent, silent and not read),
        )
        return dict(zip(self.columns, map(float, numbers), strict=True))

    def shares(self, table: Table) -> dict[str, Share]:
        """Return the shares."""
        return {
            "exact_words": Share(table["exact_read"], table["exact_wanted"]),
            "case_accuracy": Share(table["case_read"], table["case_wanted"]),
            "repeat_accuracy": Share(table["repeats_right"], table["repeats"]),
            "text_free": Share(table["silent_right"], table["silent"]),
        }


class TextLayoutMeasure:
    """Where the texts are, from the corners of the words that the reader finds.

    ==================  =======================================================================================
    ``place_accuracy``  share of the texts with a place that are read whole and whose common box is centred there
    ``side_accuracy``   share of the stated relations of two texts (above, left of) that hold
    ``size_accuracy``   share of the pairs of a big and a small text with letters in a ratio of at least 1.25
    ``order_accuracy``  share of the texts of several words whose words are all read and follow each other
    ``text_overlap``    share of the images in which two words read share over 25 % of the smaller one
    ``text_binding``    share of the texts with a place, side, size or case for which all of it is right
    ==================  =======================================================================================

    A text that is not read whole is wrong in each of them. Without the words' corners, nothing is right.
    """

    name = ""
    columns: tuple[str, ...] = (
        *("placed", "placed_right", "sides", "sides_right", "sizes", "sizes_right", "ordered", "ordered_right"),
        *("pictures", "crowded", "bound", "bound_right"),
    )

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        texts = item.facts["texts"]
        found = find_texts(texts, seen.words)
        claims = [
            ("placed", place_claims(texts, found)),
            ("sides", side_claims(item.facts["sides"], found)),
            ("sizes", size_claims(texts, found)),
        ]
        row = dict.fromkeys(self.columns, 0.0)
        for name, made in claims:
            row[name], row[f"{name}_right"] = float(len(made)), float(sum(right for _, right in made))
        ordered = _order_claims(item, found)
        row["ordered"], row["ordered_right"] = float(len(ordered)), float(sum(ordered))
        row["pictures"], row["crowded"] = 1.0, float(crowded(seen.words))
        bound = bindings([claim for _, made in claims for claim in made], case_claims(texts, found))
        row["bound"], row["bound_right"] = float(len(bound)), float(sum(bound.values()))
        return row

    def shares(self, table: Table) -> dict[str, Share]:
        """Return the shares."""
        names = {
            "place_accuracy": "placed",
            "side_accuracy": "sides",
            "size_accuracy": "sizes",
            "order_accuracy": "ordered",
            "text_binding": "bound",
        }
        shares = {name: Share(table[f"{column}_right"], table[column]) for name, column in names.items()}
        return shares | {"text_overlap": Share(table["crowded"], table["pictures"])}


Claim = tuple[tuple[int, ...], bool]
"""The indices of the texts that something is said of, and whether it holds."""


def place_claims(texts: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> list[Claim]:
    """Return for each text with a place whether it is there."""
    claims: list[Claim] = []
    for index, text in enumerate(texts):
        if "place" in text:
            box = box_of(found[index])
            right = box is not None and in_region((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, text["place"])
            claims.append(((index,), bool(right)))
    return claims


def side_claims(sides: Sequence[Sequence[Any]], found: Sequence[Found]) -> list[Claim]:
    """Return for each stated relation of two texts whether it holds."""
    claims: list[Claim] = []
    for first, side, second in sides:
        boxes = box_of(found[first]), box_of(found[second])
        right = boxes[0] is not None and boxes[1] is not None and side_of(boxes[0], boxes[1]) == side
        claims.append(((first, second), right))
    return claims


def size_claims(texts: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> list[Claim]:
    """Return for each pair of a big and a small text whether the big one's letters are :data:`BIGGER`."""
    claims: list[Claim] = []
    for big, text in enumerate(texts):
        for small, other in enumerate(texts):
            if text.get("size") == "big" and other.get("size") == "small":
                whole = box_of(found[big]) is not None and box_of(found[small]) is not None
                claims.append(((big, small), whole and height_of(found[big]) >= BIGGER * height_of(found[small])))
    return claims


def case_claims(texts: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> list[Claim]:
    """Return for each text whose case the prompt asks for whether its words have it."""
    return [
        (
            (index,),
            [_composed(word.text) if word else "" for word in found[index]] == list(map(_composed, text["words"])),
        )
        for index, text in enumerate(texts)
        if "case" in text
    ]


def bindings(claims: Sequence[Claim], more: Sequence[Claim] = ()) -> dict[int, bool]:
    """Return for each text that something is said of whether all of it holds."""
    bound: dict[int, bool] = {}
    for indices, right in (*claims, *more):
        for index in indices:
            bound[index] = bound.get(index, True) and right
    return bound


def crowded(words: Sequence[OcrWord]) -> bool:
    """Return whether two words share more than a quarter of the smaller one's area."""
    if len(words) < 2:
        return False
    shapes = polygons.polygons_of(np.stack([word.quad for word in words]).astype(np.float64))
    first, second = (shapes[rows] for rows in np.triu_indices(len(shapes), 1))
    smaller = np.minimum(polygons.areas(first), polygons.areas(second))
    return bool((polygons.shared_areas(first, second) > _OVERLAP * smaller).any())


def _order_claims(item: Item, found: Sequence[Found]) -> list[bool]:
    """Return for each text of several words whether they are in reading order; right-to-left scripts are left out."""
    if item.facts["script"] in _RIGHT_TO_LEFT:
        return []
    pairs = zip(item.facts["texts"], found, strict=True)
    return [in_reading_order(words) for text, words in pairs if len(text["words"]) > 1 and "times" not in text]


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)
