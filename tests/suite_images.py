"""Images as a reader sees them, written down by hand, and the figures of a measure over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.evaluation.suite import Item, Measure, PooledMeasure, Seen


def word(text: str, x: float, y: float, width: float = 0.2, height: float = 0.1) -> OcrWord:
    """Return a word that is centred at (x, y), in fractions of the image."""
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return OcrWord(text, np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float32))


def seen(*lines: str, words: Sequence[OcrWord] = (), path: Path = Path("none.png")) -> Seen:
    """Return an image with these lines; those of the words if there are words only."""
    return Seen(path, (512, 512), lines or tuple(one.text for one in words), tuple(words))


def figures(measure: Measure, pairs: Sequence[tuple[Item, Seen]]) -> dict[str, float]:
    """Return the figures of a measure over images by name, without those that average nothing."""
    rows = [measure.row(item, image) for item, image in pairs]
    for row in rows:
        assert set(row) == set(measure.columns)
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in measure.columns}
    shares = measure.shares(table)
    found = {name: float(one.part.sum() / one.whole.sum()) for name, one in shares.items() if one.whole.any()}
    if isinstance(measure, PooledMeasure):
        found |= {name: float(one.statistic(*one.columns)) for name, one in measure.pooled(table).items()}
    return found
