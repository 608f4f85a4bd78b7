"""The lines of MARIO's ``ocr.txt``: a word, the four corners around it, and the OCR engine's confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.layout.prompt_parser import quote_words

FRAME = 512
"""Width and height of the frame in which ``ocr.txt`` gives corners, whatever the size of the image."""

_FAR = 10.0  # frames: corners that reach further are in another unit, and such boxes would ruin a training
_SUREST = 1.001  # an engine's mean of float32 probabilities may exceed 1 by rounding
_MOST_LETTERS = 256  # of a line's text: longer ones are noise

_Point = tuple[float, float]  # x and y


@dataclass(frozen=True, eq=False)
class OcrWord:
    """A word read on an image.

    Attributes:
        text: the word with its original case; it may be noise, and may contain spaces.
        quad: (4, 2) float32, corners in fractions of the frame, clockwise on screen, from the corner at which the word
            starts. Parts of it may lie outside [0, 1].
        confidence: the OCR engine's confidence, in [0, 1].
    """

    text: str
    quad: np.ndarray
    confidence: float = 1.0


def parse_ocr(text: str, min_confidence: float = 0.0) -> tuple[list[OcrWord], list[str]]:
    """Parse the content of an ``ocr.txt``, one word per line: ``TEXT x1,y1,x2,y2,x3,y3,x4,y4 confidence``.

    Returns:
        The words in reading order, and a short reason for each other line that is not blank.

    Example:
        >>> words, problems = parse_ocr("HELLO 128,64,384,64,384,128,128,128 0.98")
        >>> words[0].text, words[0].quad[0].tolist(), problems
        ('HELLO', [0.25, 0.125], [])
    """
    words, problems = [], []
    for line in text.splitlines():
        if not line.strip():
            continue
        word = _parse_line(line, min_confidence)
        if isinstance(word, str):
            problems.append(word)
        else:
            words.append(word)
    return _in_reading_order(words), problems


def quote_read_words(caption: str, words: Sequence[OcrWord]) -> str:
    """Quote the words of a caption that were read on the image, using their texts and corners.

    :func:`~vlad_lightning.layout.prompt_parser.quote_words` does this. The caption's own quotes are kept only if all
    words in them were read: only words on the image are words to draw.
    """
    texts = [word.text for word in words]
    return quote_words(caption, texts, np.array([word.quad for word in words]), keeps_unread=False)


def reading_quad(corners: np.ndarray) -> np.ndarray:
    """Order corners clockwise on screen, from the corner at which the word starts.

    MARIO starts at the leftmost corner, which is the lower left one of a word that falls to the right. Letters are
    assumed to run from left to right: of the four possible starts, the one whose reading direction is nearest to that
    is chosen.

    Args:
        corners: (4, 2), x to the right and y down.
    """
    return np.array(_reading([(float(x), float(y)) for x, y in corners]))


def format_word(word: OcrWord) -> str:
    """Format a word as a line of ``ocr.txt``, as MARIO does: integer corners, clockwise from the leftmost one."""
    quad: list[_Point] = [(x, y) for x, y in word.quad.tolist()]
    corners = np.rint(np.array(_clockwise(quad)) * FRAME).astype(int)
    start = min(range(4), key=lambda i: (corners[i, 0], corners[i, 1]))
    numbers = ",".join(str(number) for number in np.roll(corners, -start, axis=0).ravel())
    return f"{word.text} {numbers} {word.confidence:.4g}"


def _clockwise(corners: list[_Point]) -> list[_Point]:
    # floats of Python: an operation of NumPy on four numbers takes as long as twenty of these
    x, y = (sum(corner[axis] for corner in corners) / len(corners) for axis in (0, 1))
    return sorted(corners, key=lambda corner: math.atan2(corner[1] - y, corner[0] - x))


def _reading(corners: list[_Point]) -> list[_Point]:
    """See :func:`reading_quad`."""
    quad = _clockwise(corners)
    sides = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(quad, quad[1:] + quad[:1], strict=True)]

    def cosine(i: int) -> float:
        there, back = sides[i], sides[(i + 2) % 4]
        return _cosine(there[0] - back[0], there[1] - back[1])

    start = max(range(4), key=cosine)
    return quad[start:] + quad[:start]


def _parse_line(line: str, min_confidence: float) -> OcrWord | str:
    """Return the word of a line, or the reason why the line is left out."""
    fields = line.rsplit(maxsplit=2)  # the text itself may hold spaces
    if len(fields) < 2:
        return "malformed line"
    text = " ".join(fields[0].split()) if len(fields) == 3 else ""
    try:
        numbers = [float(number) for number in fields[-2].split(",")]
        confidence = float(fields[-1])
    except ValueError:
        return "malformed line"
    if not text:
        return "empty text"
    if len(text) > _MOST_LETTERS:
        return "text too long"
    if not 0 <= confidence <= _SUREST:  # also false for nan
        return "malformed confidence"
    if confidence < min_confidence:
        return "low confidence"
    if len(numbers) != 8 or not all(map(math.isfinite, numbers)):
        return "malformed quad"
    if max(map(abs, numbers)) > _FAR * FRAME:
        return "quad far outside the frame"
    quad = _reading(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return _quad_problem(quad) or OcrWord(text, (np.array(quad) / FRAME).astype(np.float32), min(confidence, 1.0))


def _quad_problem(quad: list[_Point]) -> str | None:
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad
    across, down = (x1 - x0 + x2 - x3, y1 - y0 + y2 - y3), (x3 - x0 + x2 - x1, y3 - y0 + y2 - y1)
    area = abs(across[0] * down[1] - across[1] * down[0])
    if min(math.hypot(*across), math.hypot(*down)) < 2 or area < 4:
        return "degenerate quad"
    for places in ((x0, x1, x2, x3), (y0, y1, y2, y3)):
        if max(places) <= 0 or min(places) >= FRAME:
            return "quad outside the frame"
    return None


def _cosine(x: float, y: float) -> float:
    """Return the cosine of a direction's angle to the horizontal; -2 for a direction of zero length."""
    length = math.hypot(x, y)
    return x / length if length > 0 else -2.0


def _in_reading_order(words: list[OcrWord]) -> list[OcrWord]:
    """Sort words into lines from top to bottom, each from left to right.

    A word starts a new line if its centre lies more than half of its height below the first centre of the line.
    """
    if len(words) < 2:
        return words
    quads = np.array([word.quad for word in words])  # (N, 4, 2)
    x, y = quads.mean(axis=1).T.tolist()
    heights = np.ptp(quads[:, :, 1], axis=1).tolist()
    lines: list[list[int]] = []
    for i in sorted(range(len(words)), key=y.__getitem__):
        if lines and y[i] - y[lines[-1][0]] < heights[i] / 2:
            lines[-1].append(i)
        else:
            lines.append([i])
    return [words[i] for line in lines for i in sorted(line, key=x.__getitem__)]
