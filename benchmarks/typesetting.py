"""How well words are read with three kinds of layouts: ``python benchmarks/typesetting.py [PIPELINE]``.

The posters are of the rich world and have words that training posters may have. Printed are, with 95 % intervals over
images, the shares of words that are read on images with the true layouts, with sampled ones, and with sampled ones that
are typeset.
"""

from __future__ import annotations

import argparse

import numpy as np
from markdown_table import table

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.ocr import ocr_row
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.pipeline import VLADPipeline

BATCH = 20


def main() -> None:
    """Generate, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="vlad-mini", help="(default: %(default)s)")
    parser.add_argument("--posters", type=int, default=160, help="(default: %(default)s)")
    options = parser.parse_args()
    pipe = VLADPipeline.from_pretrained(options.pipeline)
    pipe.set_progress_bar_config(disable=True)
    source = SyntheticSource(2 * options.posters, size=pipe.config.image_size, seed=41, world="rich")
    data = MarioDataModule(None, pipe.config.image_size, batch_size=BATCH, num_workers=0, source=source, val_share=0.5)
    data.setup("validate")
    engine, rows = RapidOCREngine(), []
    for kind in ("true", "sampled", "typeset"):
        pipe.register_to_config(typesetting=kind == "typeset")
        read: list[float] = []
        asked: list[float] = []
        for batch in data.val_dataloader():
            layouts = list(batch.layouts) if kind == "true" else None
            generators = sampling_generators(0, [(key,) for key in batch.keys])
            made = pipe(list(batch.prompts), layouts=layouts, generator=generators, output_type="pt")
            for layout, lines in zip(batch.layouts, engine.read(made.images * 2 - 1), strict=True):
                read.append(ocr_row(lines, layout.words)["words_read"])
                asked.append(len(layout.words))
        result = ratio_result(np.array(read), np.array(asked), np.random.default_rng(0))
        rows.append((kind, f"{sum(asked):.0f}", f"{result.value:.3f} ({result.low:.3f} to {result.high:.3f})"))
    table(("layouts", "words", "read"), rows)


if __name__ == "__main__":
    main()
