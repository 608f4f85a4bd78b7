"""How far the measures of INNOVATOR-Eval mini get on true posters: with their true words, and with an OCR reader.

A measure that is below 1 here (above 0 where lower is better) reads or looks wrongly by that much, so no system can
be told from a perfect one by less. The posters are those of the rich world with held-out words; what is true of each
stands in the place of a prompt's facts.

    python benchmarks/suite_ceiling.py --posters 60
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.synthetic.poster import draw_poster
from vlad_lightning.data.synthetic.scene import Scene
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.evaluation.suite import Item, Measure, Seen
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.object_finder import read_pixels
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.metrics.per_image import share_results

SIZE = 128
SEED = 5

Pairs = list[tuple[Item, Seen]]


def poster_facts(scene: Scene) -> dict[str, Any]:
    """Return what is true of a poster, in the form of a prompt's facts."""
    texts = [
        {"words": [one.text for one in phrase.words], "place": phrase.region, "colour": phrase.colour}
        for phrase in scene.phrases
    ]
    things = [{"name": one.shape, "colour": one.colour, "count": 1, "place": one.region} for one in scene.objects]
    shown = {"texts": texts, "sides": [], "objects": things, "relations": [], "script": "latin"}
    return shown | {"background": scene.background.colour}


def true_posters(folder: Path, count: int) -> Pairs:
    """Draw posters into a folder, and pair what is true of each with a reading in which each word is where it is."""
    pairs = []
    for index in range(count):
        scene, _ = make_scene(index, SIZE, seed=SEED, heldout=True, world="rich")
        path = folder / f"{index}.png"
        draw_poster(scene, SIZE).save(path)
        words = tuple(OcrWord(one.text, one.quad().astype(np.float32)) for one in scene.words)
        texts = tuple(one.text for one in words)
        item = Item(str(index), "a poster", "posters", texts, poster_facts(scene))
        pairs.append((item, Seen(path, (SIZE, SIZE), texts, words)))
    return pairs


def read_by_engine(pairs: Pairs) -> Pairs:
    """Replace the true words by those that RapidOCR reads."""
    engine = RapidOCREngine()
    found = []
    for item, seen in pairs:
        pixels = read_pixels(seen.path)[None]
        lines, words = tuple(engine.read(pixels)[0]), tuple(engine.read_words(pixels)[0])
        found.append((item, Seen(seen.path, seen.size, lines, words)))
    return found


def results(measures: Sequence[Measure], pairs: Pairs) -> dict[str, str]:
    """Return the figures with their intervals over posters, as text by name."""
    told = {}
    for measure in measures:
        rows = [measure.row(item, seen) for item, seen in pairs]
        table = {name: np.array([row[name] for row in rows]) for name in measure.columns}
        for name, one in share_results(measure.shares(table), np.random.default_rng(0)).items():
            interval = f" [{one.low:.3f}, {one.high:.3f}]" if one.low is not None and one.high is not None else ""
            told[name] = f"{one.value:.3f}{interval}"
    return told


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posters", type=int, default=60)
    given = parser.parse_args()
    measures = read_suite("innovator-eval-mini").measures
    with tempfile.TemporaryDirectory() as folder:
        pairs = true_posters(Path(folder), given.posters)
        true, read = results(measures, pairs), results(measures, read_by_engine(pairs))
    print("| figure | true words | RapidOCR |\n|---|---|---|")
    for name in true:
        print(f"| `{name}` | {true[name]} | {read.get(name, '-')} |")


if __name__ == "__main__":
    main()
