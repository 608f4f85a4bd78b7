"""Images of attention checks, which say how to answer."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from vlad_lightning.layout.fonts import load_font

PROMPT = "Attention check: answer as the image says."
"""The text in the place of a check's prompt."""

_SIDE = 512  # pixels
_PAPER, _INK = "#f4f1ea", "#1c1c1c"


def score_image(score: int) -> Image.Image:
    """Return an image that asks for one score on every question.

    Args:
        score: the score, from 1 to 5.
    """
    return _drawn([("Please answer", 44), (str(score), 190), ("on every question", 44)])


def choice_images() -> tuple[Image.Image, Image.Image]:
    """Return two images: one that asks to be chosen, and one that asks to choose the other."""
    return _drawn([("Please choose", 52), ("THIS", 120), ("image", 52)]), _drawn(
        [("Please choose", 52), ("the OTHER", 76), ("image", 52)]
    )


def _drawn(lines: Sequence[tuple[str, int]]) -> Image.Image:
    """Draw lines of text below each other, each with its size in pixels, in the middle of a square."""
    image = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    pen = ImageDraw.Draw(image)
    top = (_SIDE - sum(round(1.3 * size) for _, size in lines)) // 2
    for text, size in lines:
        height = round(1.3 * size)
        pen.text((_SIDE // 2, top + height // 2), text, font=load_font(None, size), fill=_INK, anchor="mm")
        top += height
    return image
