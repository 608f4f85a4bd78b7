"""The words of an item, counted soundly: each drawing counts once, and words that nobody asked for count as well."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.evaluation.suite import Item, Seen
from vlad_lightning.metrics.ocr import ocr_row, word_shares
from vlad_lightning.metrics.per_image import Share


class WordMeasure:
    """The results over words of :class:`~vlad_lightning.metrics.ocr.OCRMetrics`, and its ``sentence_accuracy``.

    Case is ignored, punctuation counts; the words are :attr:`~vlad_lightning.evaluation.suite.Item.words`.
    """

    name = ""
    columns: tuple[str, ...] = (
        *("wanted", "wanted_characters", "tokens", "token_matches"),
        *("words_read", "all_read", "similarity", "edits"),
    )

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        row = ocr_row(seen.lines, item.words)
        return {name: float(row[name]) for name in self.columns}

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares; those over words only where a word is wanted."""
        shares = {"sentence_accuracy": Share(table["all_read"], np.ones_like(table["wanted"]))}
        return shares | word_shares(table) if table["wanted"].any() else shares
