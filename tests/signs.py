"""Images of signs with one word, for the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.files import save_picture

FONT = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
WORDS = ("HELLO", "OPEN", "COFFEE")


def draw_sign(path: Path, word: str, told: dict[str, str] | None = None) -> None:
    image = Image.new("RGB", (192, 64), "white")
    ImageDraw.Draw(image).text((12, 12), word, font=ImageFont.truetype(str(FONT), 36), fill="black")
    save_picture(image, path, told or {})


def prompt_of(word: str) -> str:
    return f"a sign that says '{word}'"


def write_prompts(path: Path, words: tuple[str, ...] = WORDS) -> Path:
    path.write_text("\n".join(map(prompt_of, words)), encoding="utf-8")
    return path
