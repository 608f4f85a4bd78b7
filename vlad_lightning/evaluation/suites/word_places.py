"""Which words of an image are those of which text, by their reading, and where a text is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.layout.prompt_parser import comparable
from vlad_lightning.metrics.layout import in_region

Found = list[OcrWord | None]


def find_texts(texts: Sequence[Mapping[str, Any]], words: Sequence[OcrWord]) -> list[Found]:
    """Find the words of texts among the words read, each word read at most once.

    Words are compared in their ``comparable`` form. Words that are where their text is to be are taken first; of others
    that are equal, the first goes to the first text.

    Args:
        texts: with ``words``, and ``place`` where there is one.
        words: the words read, in reading order.

    Returns:
        For each text the word read for each of its words; None where there is none.
    """
    free = list(words)
    found: list[Found] = [[None] * len(text["words"]) for text in texts]
    for in_place in (True, False):
        for text, own in zip(texts, found, strict=True):
            place = text.get("place") if in_place else None
            if in_place and place is None:
                continue
            for i, word in enumerate(text["words"]):
                own[i] = own[i] or _take(free, comparable(word), place)
    return found


def _take(free: list[OcrWord], wanted: str, place: str | None) -> OcrWord | None:
    """Remove the first such word from those that are free, and return it; None if there is none."""
    for i, word in enumerate(free):
        there = place is None or in_region(*centre_of(word), place)
        if there and comparable(word.text) == wanted:
            return free.pop(i)
    return None


def centre_of(word: OcrWord) -> tuple[float, float]:
    """Return the centre of a word's corners, in fractions of the image."""
    x, y = word.quad.mean(axis=0).tolist()
    return x, y


def box_of(found: Found) -> NDArray[np.float64] | None:
    """Return left, top, right, bottom of a text's words; None if one of them was not read, or there is none."""
    words = [word for word in found if word is not None]
    if not words or len(words) < len(found):
        return None
    corners = np.concatenate([word.quad for word in words]).astype(np.float64)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def side_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> str:
    """Return on which side of the second box the first one is, by their centres: the axis with the larger gap counts.

    The gap of two boxes on an axis is the distance between their nearest sides, negative where they overlap.
    """
    gaps = np.maximum(first[:2] - second[2:], second[:2] - first[2:])
    before = first[:2] + first[2:] < second[:2] + second[2:]
    if gaps[0] > gaps[1]:
        return "left" if before[0] else "right"
    return "above" if before[1] else "below"


def height_of(found: Found) -> float:
    """Return the mean height of the letters' boxes of a text's words, along their upright sides."""
    sides = [np.linalg.norm(word.quad[3] - word.quad[0]) for word in found if word is not None]
    return float(np.mean(sides)) if sides else 0.0


def in_reading_order(found: Found) -> bool:
    """Return whether each word of a text comes after the one before it: to its right on a line, or on a lower line."""
    words = [word for word in found if word is not None]
    return len(words) == len(found) and all(_follows(a, b) for a, b in pairwise(words))


def _follows(first: OcrWord, second: OcrWord) -> bool:
    """Return whether the second word is on a lower line, or to the right on the same line, along the first's."""
    across = (first.quad[1] - first.quad[0]).astype(np.float64)
    across /= max(float(np.linalg.norm(across)), 1e-9)
    right, up = across, np.array([across[1], -across[0]])
    offset = np.subtract(centre_of(second), centre_of(first))
    line = max(height_of([first]), height_of([second])) / 2
    lower = -float(offset @ up)
    return lower > line or (lower > -line and float(offset @ right) > 0)
