"""A text of several lines in one box: its line breaks and the box of each line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.layout.fonts import load_font
from vlad_lightning.layout.ink import MEASURE, ink_of
from vlad_lightning.types import Layout

Align = Literal["left", "centre", "right"]

_HALVINGS = 40  # of the interval in which the largest size is searched


def paragraph(
    text: str,
    quad: Tensor,
    align: Align = "centre",
    wrap: bool = False,
    leading: float = 1.2,
    font: str | None = None,
    ratio: float = 1.0,
) -> Layout:
    """Set a text into a box, in letters of one size, as large as the box allows; return one box per line.

    A line's box surrounds its ink, so that ``one`` gets a lower box than ``TYPE`` and both are on their baselines.

    Args:
        text: its line breaks are kept; blank lines leave a gap.
        quad: (4, 2) float, corners in fractions of the frame, clockwise, from the top left one.
        align: alignment of the lines in the box.
        wrap: whether lines may also be broken at spaces, and between Chinese and Japanese characters, which lets
            the letters grow.
        leading: distance from baseline to baseline, in heights of a line (ascent and descent).
        font: a font file; None is the default one.
        ratio: the frame's width by its height.

    Raises:
        ValueError: if ``text`` is blank, ``align`` is unknown, or ``leading`` or the box's area is not positive.
    """
    corners = quad.double().numpy()
    _check(text, corners, align, leading)
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    width, height = (np.linalg.norm((corners[i] - corners[0]) * (ratio, 1.0)) for i in (1, 3))
    if wrap:
        lines = _wrapped(lines, float(width / height), leading, font)
    quads = [
        corners[0] + box @ np.stack([corners[1] - corners[0], corners[3] - corners[0]])
        for box in _line_boxes(lines, float(width / height), align, leading, font)
    ]
    words = [line for line in lines if line]
    layout = Layout.from_quads(words, torch.from_numpy(np.stack(quads)))
    return Layout(layout.words, layout.boxes, (font,) * len(words) if font else ())


def _check(text: str, corners: np.ndarray, align: str, leading: float) -> None:
    if not text.strip():
        raise ValueError(f"text is {text!r}; a paragraph needs a word")
    if align not in get_args(Align):
        raise ValueError(f"align is {align!r}; allowed are {', '.join(get_args(Align))}")
    if leading <= 0:
        raise ValueError(f"leading is {leading}; it must be above 0")
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    if not abs(across[0] * down[1] - across[1] * down[0]) > 0:
        raise ValueError(f"quad is {corners.tolist()}; it must have an area")


def _line_boxes(
    lines: Sequence[str], aspect: float, align: Align, leading: float, font: str | None
) -> Iterator[np.ndarray]:
    """Yield the (4, 2) corners of each line that is not blank, in fractions of the paragraph's box.

    Args:
        lines: the lines in order.
        aspect: width by height of the box.
        align: see :func:`paragraph`.
        leading: see :func:`paragraph`.
        font: see :func:`paragraph`.
    """
    pitch = leading * _line_height(font)
    inks = {i: ink_of(line, font) for i, line in enumerate(lines) if line}
    top = min(ink.top + i * pitch for i, ink in inks.items())
    bottom = max(ink.bottom + i * pitch for i, ink in inks.items())
    widest = max(ink.right - ink.left for ink in inks.values())
    scale = min(aspect / widest, 1 / (bottom - top))  # box heights per pixel at the measuring size
    above = (1 - scale * (bottom - top)) / 2  # the block of lines is in the middle of the box
    for i, ink in inks.items():
        width = scale * (ink.right - ink.left) / aspect
        x = {"left": 0.0, "centre": (1 - width) / 2, "right": 1 - width}[align]
        y0, y1 = (above + scale * (i * pitch + edge - top) for edge in (ink.top, ink.bottom))
        yield np.array([[x, y0], [x + width, y0], [x + width, y1], [x, y1]])


def _wrapped(lines: Sequence[str], aspect: float, leading: float, font: str | None) -> list[str]:
    """Find the breaks that allow the largest letters: search for the narrowest width whose lines fit the height."""
    pitch = leading * _line_height(font)
    pieces = [_pieces(line) for line in lines]
    narrow = max(_width(piece, font) for line in pieces for piece in line)  # no line can be narrower than a word
    wide = max(narrow, *(_width(line, font) for line in lines))
    best = [broken for line in pieces for broken in _broken(line, wide, font)]
    for _ in range(_HALVINGS):
        middle = (narrow + wide) / 2
        tried = [broken for line in pieces for broken in _broken(line, middle, font)]
        if len(tried) * pitch <= middle / aspect:  # it fits: smaller lines, larger letters
            best, wide = tried, middle
        else:
            narrow = middle
    return best


def _broken(pieces: Sequence[str], width: float, font: str | None) -> list[str]:
    """Break pieces into lines of at most ``width`` pixels, filled one after the other."""
    lines = [""]
    for piece in pieces:
        joined = lines[-1] + piece
        if lines[-1] and _width(joined.strip(), font) > width:
            lines.append(piece)
        else:
            lines[-1] = joined
    return [line.strip() for line in lines]


def _pieces(line: str) -> list[str]:
    """Split a line where breaks may fall: into words with the space before them, and single wide characters."""
    pieces = [""]
    for character in line:
        wide = unicodedata.east_asian_width(character) == "W"
        after_wide = bool(pieces[-1]) and unicodedata.east_asian_width(pieces[-1][-1]) == "W"
        closing = unicodedata.category(character) in ("Pe", "Pf", "Po")  # never begins a line
        if character == " " or ((wide or after_wide) and not closing):
            pieces.append("")
        pieces[-1] += character
    return [piece for piece in pieces if piece.strip()] or [""]


def _width(line: str, font: str | None) -> float:
    if not line.strip():
        return 0.0
    ink = ink_of(line.strip(), font)
    return ink.right - ink.left


def _line_height(font: str | None) -> float:
    ascent, descent = load_font(font, MEASURE).getmetrics()
    return float(ascent + descent)
