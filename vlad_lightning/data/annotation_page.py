"""A page about annotated pictures: the report, and some samples with the boxes of their words drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from vlad_lightning.data.mario import read_sample
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.source import SkipSample
from vlad_lightning.files import new_folder, write_text
from vlad_lightning.layout.fonts import load_font

PAGE = "annotation.md"
_PICTURES = "annotation_pictures"
_SHOWN = 12  # samples
_SIDE = 384  # pixels
_COLOUR = (255, 0, 144)


def write_page(out: Path, lines: Sequence[str], samples: Sequence[tuple[str, str]]) -> None:
    """Write the page, and its pictures into a folder beside it.

    Args:
        out: the data folder.
        lines: the report.
        samples: name and folder of each, the latter as ``00123/000000456``; some that are evenly spread are shown.
    """
    rows = []
    with new_folder(out / _PICTURES) as pictures:
        for number, (name, folder) in enumerate(samples[:: max(1, -(-len(samples) // _SHOWN))]):
            try:
                sample = read_sample(out / folder)
            except SkipSample:
                continue
            with_boxes(sample.image, sample.words).save(pictures / f"{number:02d}.png")
            shown = f"![{folder}]({_PICTURES}/{number:02d}.png)"
            rows.append(f"{_code(name)}\n\n{shown}\n\n{_code(sample.caption)}\n")
    report = "\n".join(f"- {line}" for line in lines)
    write_text(out / PAGE, "\n".join([f"# Annotated pictures\n\n{report}\n", *rows]))


def with_boxes(image: Image.Image, words: Sequence[OcrWord]) -> Image.Image:
    """Return a small copy of a picture with the words' boxes, each with the word above it."""
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shown = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen, font = ImageDraw.Draw(shown), load_font(None, 11)
    for word in words:
        corners = [(x * size[0], y * size[1]) for x, y in word.quad.tolist()]
        pen.polygon(corners, outline=_COLOUR, width=2)
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        pen.text((max(0.0, left), max(0.0, top - 13)), word.text, fill=_COLOUR, font=font)
    return shown


def _code(text: str) -> str:
    """Return a text as code in Markdown, so that no character of it means anything else."""
    return "    " + text
