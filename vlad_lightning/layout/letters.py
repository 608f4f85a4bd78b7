"""Words drawn from letters that are drawn once: bit for bit what Pillow draws, in a fraction of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.layout.fonts import load_font

_MARGIN = 2  # pixels around a word's bounding box
_LETTERS = 2048  # in the cache: a few kilobytes each, a megabyte in the largest size
_PAIRS = 16_384

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Ink:
    """A drawn word.

    Attributes:
        picture: (H, W) uint8: white on black, with a margin around the font's bounding box of the word.
        box: left, top, right, bottom of what is not black, in whole pixels.
    """

    picture: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def exact_box(self) -> Box:
        """The box in fractions of a pixel: an edge pixel counts by its coverage."""
        left, top, right, bottom = self.box
        ink = self.picture[top:bottom, left:right]
        edges = [edge.max() / 255 for edge in (ink[:, 0], ink[0], ink[:, -1], ink[-1])]
        exact = (left + 1 - edges[0], top + 1 - edges[1], right - 1 + edges[2], bottom - 1 + edges[3])
        return exact if exact[0] < exact[2] and exact[1] < exact[3] else self.box


@dataclass(frozen=True, eq=False)
class _Letter:
    """A drawn letter; positions are relative to the pen, down and to the right.

    Attributes:
        bounds: left, top, right, bottom of the font's bounding box.
        ink: (h, w) uint8, without black rows or columns at its edges; None for a letter without ink.
        corner: where the ink begins.
    """

    bounds: tuple[int, int, int, int]
    ink: np.ndarray | None
    corner: tuple[int, int]


def draw_shaped(word: str, face: ImageFont.FreeTypeFont) -> Ink | None:
    """Draw a word in one piece, for a script whose letters depend on their neighbours; None if there is no ink."""
    left, top, right, bottom = face.getbbox(word)
    size = (math.ceil(right - left) + 2 * _MARGIN, math.ceil(bottom - top) + 2 * _MARGIN)
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).text((_MARGIN - left, _MARGIN - top), word, fill=255, font=face)
    box = picture.getbbox()
    return None if box is None else Ink(np.asarray(picture), box)


def draw_letters(word: str, font: str | None, size: int) -> Ink | None:
    """Draw a word letter by letter, from left to right with kerning; None if there is no ink.

    Args:
        word: at least one character.
        font: see :func:`~vlad_lightning.layout.fonts.load_font`.
        size: font size in pixels.
    """
    letters = [_letter(font, size, character) for character in word]
    pens = _pens(word, font, size)
    bounds = np.array([letter.bounds for letter in letters])
    bounds[:, ::2] += np.array(pens)[:, None]
    (left, top), (right, bottom) = bounds[:, :2].min(axis=0).tolist(), bounds[:, 2:].max(axis=0).tolist()
    picture = np.zeros((bottom - top + 2 * _MARGIN, right - left + 2 * _MARGIN), dtype=np.uint8)
    boxes = []
    end = 0  # of the letters before: only there can two overlap
    for letter, pen in zip(letters, pens, strict=True):
        if letter.ink is None:
            continue
        x, y = pen + letter.corner[0] - left + _MARGIN, letter.corner[1] - top + _MARGIN
        height, width = letter.ink.shape
        part = picture[y : y + height, x : x + width]
        part[:] = letter.ink if x >= end else _over(letter.ink, part)
        boxes.append((x, y, x + width, y + height))
        end = max(end, x + width)
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Ink(picture, (min(lefts), min(tops), max(rights), max(bottoms)))


def _pens(word: str, font: str | None, size: int) -> list[int]:
    """Return where each letter's pen is, in whole pixels from that of the first."""
    at, pens = 0.0, [0]
    for pair in pairwise(word):
        at += _advance(font, size, *pair)
        pens.append(math.floor(at + 0.5))
    return pens


def _over(ink: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return ink over other ink as Pillow blends them: a + b (1 - a), rounded."""
    product = below.astype(np.uint16) * (255 - ink) + 128
    return ink + ((product + (product >> 8)) >> 8).astype(np.uint8)


@lru_cache(maxsize=_LETTERS)
def _letter(font: str | None, size: int, character: str) -> _Letter:
    face = load_font(font, size)
    left, top, right, bottom = (int(side) for side in face.getbbox(character))
    drawn = draw_shaped(character, face)
    if drawn is None:
        return _Letter((left, top, right, bottom), None, (0, 0))
    x, y, x_end, y_end = drawn.box
    corner = (x + left - _MARGIN, y + top - _MARGIN)
    return _Letter((left, top, right, bottom), drawn.picture[y:y_end, x:x_end].copy(), corner)


@lru_cache(maxsize=_PAIRS)
def _advance(font: str | None, size: int, character: str, following: str) -> float:
    """Return by how many pixels the pen moves after a character, with the kerning before the following one."""
    face = load_font(font, size)
    return face.getlength(character + following) - face.getlength(following)
