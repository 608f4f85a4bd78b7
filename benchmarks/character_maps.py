"""How well ``vlad-cli annotate --charseg true`` tells characters: ``python benchmarks/character_maps.py``.

Posters are drawn with the character that each pixel shows. The words of their ``ocr.txt``, which have the true boxes,
and the words that OCR reads on them each give a map, which is compared with the truth: the share of the true letters'
pixels that have their character, of the map's letters that are right, and of the pixels that both call letters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from markdown_table import table, table_rows

from vlad_lightning.data.annotation import read_words
from vlad_lightning.data.charseg_data import read_charseg
from vlad_lightning.data.mario import UNKNOWN, read_sample
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.source import RawSample
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.data.word_characters import character_map
from vlad_lightning.metrics.word_reader import WordReader


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posters", type=int, default=100, help="of each kind; default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    options = parser.parse_args()
    reader = WordReader()
    words: dict[str, Callable[[RawSample], list[OcrWord]]] = {
        "true": lambda sample: list(sample.words),
        "read": lambda sample: read_words(reader, sample.image, sample.key),
    }
    columns = ("letters found", "found letters right", "of the pixels of both", "unknown", "ms a picture")
    table(("world", "px", "words", *columns), ())
    for world in ("plain", "rich"):
        for size in (128, 512):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "posters"
                write_posters(root, options.posters, size, options.seed, workers=1, world=world)
                pairs = [(read_sample(path), read_charseg(path)) for path in sorted(root.glob("*/*"))]
            for name, words_of in words.items():
                given = [words_of(sample) for sample, _ in pairs]
                began = time.process_time()
                found = np.stack([character_map(s.image, w) for (s, _), w in zip(pairs, given, strict=True)])
                seconds = (time.process_time() - began) / len(pairs)
                shown = shares(found, np.stack([np.asarray(true) for _, true in pairs]))
                table_rows([(world, str(size), name, *(f"{share:.3f}" for share in shown), f"{1000 * seconds:.0f}")])


def shares(found: np.ndarray, true: np.ndarray) -> tuple[float, float, float, float]:
    """Return the shares of the columns for maps (N, 256, 256)."""
    ours, theirs = (found > 0) & (found != UNKNOWN), true > 0
    right = ((found == true) & theirs).sum()
    return right / theirs.sum(), right / ours.sum(), right / (ours & theirs).sum(), (found == UNKNOWN)[theirs].mean()


if __name__ == "__main__":
    main()
