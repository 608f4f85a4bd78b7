"""How near a pipeline comes to colours beyond the palette: ``python benchmarks/shades.py PIPELINE ...``.

The prompts name each shade of the literal world twice: as the background of a held-out word, and as the colour of a
shape beside it, on white or black. Printed are, with 95 % intervals over images, the share of the grounds and of the
shapes that are near the colour that CSS has for the name (at most 60 of 441 in sRGB; the median of the outermost
pixels, and of those in the box of the shape that are far from the ground), the median distances, and the share of the
words that are read.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.shades import SHADES, rgb_of
from vlad_lightning.data.synthetic.vocabulary import draw_word
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE, RGB
from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.ocr import ocr_row
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Layout

NAMES = tuple(name for shades in SHADES.values() for name in shades)
NEAR = 60.0
BORDER = 4  # pixels, of 128
FAR = 60.0  # of a pixel to the ground, so that it belongs to the shape


def prompts_of(words: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Return prompts with the name of their shade, and whether it is the background's."""
    asked = []
    for i, (name, word) in enumerate(zip(NAMES, words, strict=True)):
        asked.append((f"a poster that says '{word}' on a {name} background", name, True))
        ground = max(("white", "black"), key=lambda ground: math.dist(PALETTE[ground], rgb_of(name)))
        shape = SHAPES[i % len(SHAPES)]
        asked.append((f"a {name} {shape} and the text '{word}' on a {ground} background", name, False))
    return asked


def ground_colour(image: np.ndarray) -> np.ndarray:
    """Return the median of the outermost pixels of (H, W, 3) bytes, (3,)."""
    edges = image[:BORDER], image[-BORDER:], image[:, :BORDER], image[:, -BORDER:]
    return np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)


def shape_colour(image: np.ndarray, layout: Layout) -> np.ndarray | None:
    """Return the median of the pixels in the box of the shape that are far from the ground; None without any."""
    inside = [box for box in layout.object_boxes.tolist() if box[2] * box[3] < 0.5]
    if not inside:
        return None
    x, y, width, height, _ = inside[0]
    side = len(image)
    rows = slice(max(0, round((y - height / 2) * side)), round((y + height / 2) * side))
    columns = slice(max(0, round((x - width / 2) * side)), round((x + width / 2) * side))
    pixels = image[rows, columns].reshape(-1, 3)
    pixels = pixels[np.linalg.norm(pixels - ground_colour(image), axis=1) > FAR]
    return np.median(pixels, axis=0) if len(pixels) else None


def distance(image: Tensor, layout: Layout, rgb: RGB, of_ground: bool) -> float:
    """Return the distance of what was drawn to a colour; that of black to white where nothing was."""
    pixels = to_bytes(image[None])[0].permute(1, 2, 0).numpy().astype(np.float32)
    found = ground_colour(pixels) if of_ground else shape_colour(pixels, layout)
    return 441.0 if found is None else float(np.linalg.norm(found - np.array(rgb)))


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    words = [draw_word(rng, True, GRAMMAR_WORDS["literal"]) for _ in NAMES]
    asked = prompts_of(words)
    engine, rows = RapidOCREngine(), []
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        far: dict[bool, list[float]] = {True: [], False: []}
        read = []
        for start in range(0, len(asked), 12):
            now = asked[start : start + 12]
            prompts = [prompt for prompt, _, _ in now]
            keys = [(prompt,) for prompt in prompts]
            made = pipe(prompts, generator=sampling_generators(0, keys), output_type="pt")
            images = made.images * 2 - 1
            drawn = zip(images, made.layouts, engine.read(images), now, strict=True)
            for k, (image, layout, lines, (_, shade, of_ground)) in enumerate(drawn, start=start):
                far[of_ground].append(distance(image, layout, rgb_of(shade), of_ground))
                read.append(ocr_row(lines, [words[k // 2]])["words_read"])
        cells = []
        for values in (far[True], far[False]):
            near = np.array([value <= NEAR for value in values], dtype=np.float64)
            result = ratio_result(near, np.ones(len(near)), np.random.default_rng(0))
            cells += [f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f})", f"{np.median(values):.0f}"]
        result = ratio_result(np.array(read, dtype=np.float64), np.ones(len(read)), np.random.default_rng(0))
        rows.append((name, *cells, f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f})"))
    table(("pipeline", "grounds near", "median distance", "shapes near", "median distance", "words read"), rows)


if __name__ == "__main__":
    main()
