"""What the parts of inference that are not learned change: ``python benchmarks/inference.py [PIPELINE]``.

The posters are of the rich world and have words that training posters may have. Printed are, with 95 % intervals over
images, the shares of words that are read and of objects that the shipped detector finds, of the right kind and colour:

================  =============================================================
``shipped``       the pipeline as it is
``sampled``       without typesetting: words and rows stay in their sampled boxes
``true``          with the layouts of the posters
``own_colours``   objects have the colours of their stamps, not those that their phrases name
``unrescaled``    guidance is not rescaled
``unlettered``    letters whose colour is told are not drawn in it into the phrase map's picture
``unskipped``     without the skip connection around the network
================  =============================================================
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from markdown_table import table
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.object_requests import requested_objects
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.objects import SHARES, object_row
from vlad_lightning.metrics.ocr import ocr_row
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pipeline import VLADPipeline

BATCH = 20
_WORDS = ("words_read", "words")
COLUMNS = ("words read", *(name.removeprefix("object_") for name in SHARES))

KINDS: dict[str, Callable[[VLADPipeline], object]] = {
    "shipped": lambda pipe: None,
    "sampled": lambda pipe: pipe.register_to_config(typesetting=False),
    "true": lambda pipe: None,
    "own_colours": lambda pipe: pipe.phrase_map.register_to_config(named_colours=False),
    "unrescaled": lambda pipe: pipe.register_to_config(guidance_rescale=0.0),
    "unlettered": lambda pipe: pipe.phrase_map.register_to_config(coloured_letters=False),
    "unskipped": lambda pipe: pipe.register_modules(layout_skip=None),
}


def main() -> None:
    """Generate, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="vlad-mini", help="(default: %(default)s)")
    parser.add_argument("--posters", type=int, default=160, help="(default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    judges = Judges(options.posters, VLADPipeline.from_pretrained(options.pipeline).config.image_size)
    rows = []
    for kind in options.kinds:
        pipe = VLADPipeline.from_pretrained(options.pipeline)
        pipe.set_progress_bar_config(disable=True)
        KINDS[kind](pipe)
        rows.append((kind, *judges.shares(pipe, true_layouts=kind == "true")))
    table(("", *COLUMNS), rows)


class Judges:
    """Posters of the rich world whose prompts are generated, read and looked at.

    Args:
        posters: how many.
        side: of the posters in pixels.
    """

    def __init__(self, posters: int, side: int) -> None:
        source = SyntheticSource(2 * posters, size=side, seed=41, world="rich")
        self.data = MarioDataModule(None, side, batch_size=BATCH, num_workers=0, source=source, val_share=0.5)
        self.data.setup("validate")
        self.detector = EvaluationDetector("vlad-mini-evaluation", ObjectDetector(128, 24, True))
        self.engine = RapidOCREngine()

    def shares(self, pipe: VLADPipeline, true_layouts: bool = False, **settings: Any) -> list[str]:
        """Generate with these settings of a call, and return a cell for each of :data:`COLUMNS`."""
        counts: list[dict[str, Any]] = []
        for batch in self.data.val_dataloader():
            settings |= {"generator": sampling_generators(0, [(key,) for key in batch.keys]), "output_type": "pt"}
            drawn = pipe(list(batch.prompts), list(batch.layouts) if true_layouts else None, **settings).images
            assert isinstance(drawn, Tensor)
            images = drawn * 2 - 1
            seen = zip(
                batch.prompts, batch.layouts, self.engine.read(images), self.detector.detect(images), strict=True
            )
            for prompt, layout, lines, found in seen:
                read = {"words_read": ocr_row(lines, layout.words)["words_read"], "words": len(layout.words)}
                counts.append(object_row(requested_objects(prompt, self.detector.nouns), found) | read)
        return [_share(counts, *columns) for columns in (_WORDS, *SHARES.values())]


def _share(counts: list[dict[str, Any]], part: str, whole: str) -> str:
    parts, wholes = (np.array([row[name] for row in counts], dtype=float) for name in (part, whole))
    result = ratio_result(parts, wholes, np.random.default_rng(0))
    return f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f})"


if __name__ == "__main__":
    main()
