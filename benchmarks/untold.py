"""What a pipeline draws that nobody asked for: ``python benchmarks/untold.py PIPELINE ...``.

The prompts ask for a held-out word and nothing else. Printed are, with 95 % intervals over images, the shares of images
with a plain ground (the colours of its outermost pixels deviate by less than 8 % of white from their mean), of images
in which the shipped detector finds an object, and of the words that are read. A second row for each pipeline has the
same layouts in print, black letters on white: what the judges get wrong where there is nothing but a word.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from markdown_table import table
from torch import Tensor, cat

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.vocabulary import draw_word
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.ocr import ocr_row
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Layout

FORMS = ("a poster that says '{}'", "a sign with the word '{}'", "a card, '{}'", "'{}' book cover", "the text '{}'")
BORDER = 4  # pixels, of 128
PLAIN = 0.08 * 2  # of pixels in [-1, 1]


def is_plain(image: Tensor) -> bool:
    """Return whether the outermost pixels of an image, (3, H, W) in [-1, 1], have nearly one colour."""
    edges = image[:, :BORDER], image[:, -BORDER:], image[:, :, :BORDER], image[:, :, -BORDER:]
    border = cat([edge.flatten(1) for edge in edges], dim=1)  # (3, pixels)
    return bool((border - border.mean(dim=1, keepdim=True)).square().mean().sqrt() < PLAIN)


def in_print(pipe: VLADPipeline, layouts: Sequence[Layout]) -> Tensor:
    """Draw the words of layouts in black on white, (B, 3, H, W) in [-1, 1]."""
    return (1 - 2 * pipe.image_generator.draw_glyphs(layouts) / 255).expand(-1, 3, -1, -1)


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    parser.add_argument("--prompts", type=int, default=60, help="(default: %(default)s)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    words = [draw_word(rng, True, GRAMMAR_WORDS["rich"]) for _ in range(options.prompts)]
    prompts = [FORMS[i % len(FORMS)].format(word) for i, word in enumerate(words)]
    detector = EvaluationDetector("vlad-mini-evaluation", ObjectDetector(128, 24, True))
    engine, rows = RapidOCREngine(), []
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        pipe.set_progress_bar_config(disable=True)
        counted: dict[str, list[tuple[bool, bool, float]]] = {name: [], "in print": []}
        for start in range(0, len(prompts), 12):
            asked = prompts[start : start + 12]
            made = pipe(asked, generator=sampling_generators(0, [(prompt,) for prompt in asked]), output_type="pt")
            for kind, images in ((name, made.images * 2 - 1), ("in print", in_print(pipe, made.layouts))):
                asked_words = words[start : start + len(asked)]
                seen = zip(images, detector.detect(images), engine.read(images), asked_words, strict=True)
                for image, found, lines, word in seen:
                    counted[kind].append((is_plain(image), bool(found), ocr_row(lines, [word])["words_read"]))
        for kind, found_in_each in counted.items():
            columns = np.array(found_in_each, dtype=np.float64).T
            results = [ratio_result(column, np.ones(len(prompts)), np.random.default_rng(0)) for column in columns]
            rows.append((kind, f"{len(prompts)}", *(f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in results)))
    table(("pipeline", "images", "plain grounds", "with an object", "words read"), rows)


if __name__ == "__main__":
    main()
