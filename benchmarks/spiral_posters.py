"""Posters with a thing that the shipped model does not know: ``python benchmarks/spiral_posters.py DIR``.

Each is a JPEG with its caption in a text file beside it, as ``vlad-cli annotate`` reads them: a plain poster of 256 px
with a word, and always the same white spiral on a dark disc, which is the thing to be learned.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from vlad_lightning.files import new_folder
from vlad_lightning.layout.colours import rgb_named
from vlad_lightning.layout.fonts import load_font

_SIDE, _DISC, _TURNS = 256, 52, 2.5
_BACKGROUNDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_WORDS = (
    "APPLE",
    "BREAD",
    "CLOUD",
    "DANCE",
    "EARTH",
    "FLAME",
    "GRAPE",
    "HOTEL",
    "JUICE",
    "LEMON",
    "MUSIC",
    "NIGHT",
    "OCEAN",
)


def spiral_poster(draws: random.Random) -> tuple[Image.Image, str]:
    """Draw one poster, and say what it shows."""
    colour, word, above = draws.choice(_BACKGROUNDS), draws.choice(_WORDS), draws.random() < 0.5
    image = Image.new("RGB", (_SIDE, _SIDE), rgb_named(colour))
    pen = ImageDraw.Draw(image)
    x, y = draws.uniform(70, _SIDE - 70), draws.uniform(62, 80) if above else draws.uniform(_SIDE - 80, _SIDE - 62)
    pen.circle((x, y), _DISC, fill=(30, 30, 60))
    angles = [2 * math.pi * _TURNS * n / 200 for n in range(201)]
    reach = [0.85 * _DISC * n / 200 for n in range(201)]
    points = [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]
    pen.line(points, fill="white", width=8, joint="curve")
    middle = (_SIDE / 2, _SIDE * (0.76 if above else 0.24))
    pen.text(middle, word, fill="black", font=load_font(None, 46), anchor="mm")
    return image, f"a {colour} poster with a spiral that says '{word}'"


def main() -> None:
    """Write the pictures and their captions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--samples", type=int, default=60, help="number of posters (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same posters (default: %(default)s)")
    options = parser.parse_args()
    draws = random.Random(options.seed)
    with new_folder(options.out) as folder:
        for number in range(options.samples):
            image, caption = spiral_poster(draws)
            image.save(folder / f"{number:03d}.jpg", quality=95)
            (folder / f"{number:03d}.txt").write_text(f"{caption}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
