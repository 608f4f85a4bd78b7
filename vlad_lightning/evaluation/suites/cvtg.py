"""CVTG-2K (arXiv 2503.23461): several texts in one image; its own figures, and beside each the corrected one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchmetrics.functional.text import edit_distance

from vlad_lightning.evaluation.suite import Item, Seen, Suite
from vlad_lightning.evaluation.suites.prompt_files import (
    checked_items,
    field,
    needed_path,
    read_data_list,
    texts_of,
)
from vlad_lightning.evaluation.suites.word_measure import WordMeasure
from vlad_lightning.layout.prompt_parser import bare_word
from vlad_lightning.metrics.ocr import common, mario_keywords
from vlad_lightning.metrics.per_image import Share

TYPES = ("CVTG", "CVTG-Style")
AREAS = (2, 3, 4, 5)
_DEFINITION = (
    "CVTG-2K, arXiv 2503.23461: the words between ASCII apostrophes of the prompt, in lower case; cvtg_accuracy counts "
    "a word as read if it is anywhere among the words read, so one drawing serves every repetition, punctuation has to "
    "be read too, and words that nobody asked for cost nothing; cvtg_ned compares with difflib's closest word. Beside "
    "them: cvtg_bare_accuracy (each drawing once, punctuation around words ignored); word_accuracy, micro_precision "
    "and edit_similarity of the words of sentence_list, paired one to one. Any reader; the published figures are "
    "PaddleOCR's."
)


def cvtg_scores(lines: Sequence[str], words: Sequence[str]) -> tuple[int, float]:
    """Return how many of the words are found, and the sum of their NED, as CVTG-2K computes both.

    Args:
        lines: lines read.
        words: words wanted, in lower case, as :func:`~vlad_lightning.metrics.ocr.mario_keywords` finds them.

    Example:
        >>> cvtg_scores(["SALE now"], ["sale", "sale", "no"])
        (2, 2.6666666666666665)
    """
    read = [word for line in lines for word in line.lower().split()]
    found = sum(word in read for word in words)
    return found, sum(_ned(word, read) for word in words)


def _ned(word: str, read: Sequence[str]) -> float:
    """Return 1 - Levenshtein / length of the longer, against the word that difflib finds closest; 0 if none is read."""
    closest = difflib.get_close_matches(word, read, n=1, cutoff=0.0)
    if not closest:
        return 0.0
    distance = 0 if closest[0] == word else int(edit_distance([closest[0]], [word], reduction="sum"))
    return 1 - distance / max(len(word), len(closest[0]), 1)


class CvtgMeasure:
    """CVTG-2K's own accuracy and NED, and the accuracy without two of its flaws.

    ======================  ===============================================================================
    ``cvtg_accuracy``       share of the keywords that are members of the set of words read
    ``cvtg_ned``            mean over the keywords of their NED to difflib's closest word
    ``cvtg_bare_accuracy``  share of the words that are read, each drawing once, without outer punctuation
    ======================  ===============================================================================
    """

    name = ""
    columns: tuple[str, ...] = ("cvtg_wanted", "cvtg_found", "cvtg_similarity", "cvtg_bare_wanted", "cvtg_bare_found")

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        keywords = mario_keywords(item.prompt)
        found, similarity = cvtg_scores(seen.lines, keywords)
        wanted = [bare_word(word) for word in item.words]
        read = [bare_word(word) for line in seen.lines for word in line.split()]
        counts = (len(keywords), found, similarity, len(wanted), common(read, wanted))
        return dict(zip(self.columns, map(float, counts), strict=True))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares, over all words of all images."""
        return {
            "cvtg_accuracy": Share(table["cvtg_found"], table["cvtg_wanted"]),
            "cvtg_ned": Share(table["cvtg_similarity"], table["cvtg_wanted"]),
            "cvtg_bare_accuracy": Share(table["cvtg_bare_found"], table["cvtg_bare_wanted"]),
        }


def read_cvtg(prompts: Path | None) -> Suite:
    """Read CVTG-2K.

    Args:
        prompts: the folder with ``CVTG/2.json`` to ``CVTG/5.json`` and ``CVTG-Style/2.json`` to ``CVTG-Style/5.json``.

    Raises:
        FileNotFoundError: naming a folder or file that is missing.
        ValueError: naming an entry that has another form, or an empty list.
    """
    root = needed_path(prompts, "cvtg-2k", "the folder with CVTG and CVTG-Style")
    items: list[Item] = []
    other_count = 0
    for kind in TYPES:
        for areas in AREAS:
            path = root / kind / f"{areas}.json"
            if not path.is_file():
                raise FileNotFoundError(f"prompts is {str(root)!r}, which lacks {kind}/{areas}.json")
            for place, entry in read_data_list(path):
                sentences = texts_of(entry, "sentence_list", place)
                other_count += len(sentences) != areas
                index = field(entry, "index", int, place)
                words = tuple(word for sentence in sentences for word in sentence.split())
                facts = {"areas": areas, "texts": sentences, "carriers": texts_of(entry, "carrier_list", place)}
                prompt = field(entry, "prompt", str, place)
                items.append(Item(f"{kind}/{areas}/{index}", prompt, f"{kind}/{areas}", words, facts))
    notes = (f"{other_count} prompts have another number of texts than their file's name says.",) if other_count else ()
    return Suite(
        "cvtg-2k", checked_items(items, root), (CvtgMeasure(), WordMeasure()), definition=_DEFINITION, notes=notes
    )
