"""LongText-Bench (arXiv 2507.22058): long English and Chinese texts, by its counting rule with an OCR reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchmetrics.functional.text import edit_distance

from vlad_lightning.evaluation.suite import Item, Seen, Suite
from vlad_lightning.evaluation.suites.prompt_files import (
    Entry,
    checked_items,
    field,
    needed_path,
    read_json_lines,
    texts_of,
)
from vlad_lightning.metrics.ocr import common
from vlad_lightning.metrics.per_image import Share

_IMAGES = 4
_FIRST = 0xE000  # characters of private use stand for words
_HAN = range(0x4E00, 0xA000)
_DEFINITION = (
    "LongText-Bench, arXiv 2507.22058: letters and digits in lower case; longtext_accuracy is the share of the words "
    "(of the characters where the text is Chinese) that are read, as multisets, summed over images. The original reads "
    "with a vision-language model, this one with the reader at hand. Beside it: longtext_precision and longtext_f1 "
    "(text that nobody asked for costs something) and longtext_order, 1 - edits in words over the longer text, for "
    "which the order counts."
)


def units(texts: Sequence[str], by_character: bool) -> list[str]:
    """Split texts into the units that LongText-Bench counts, in lower case, without anything but letters and digits.

    Args:
        texts: the texts.
        by_character: split into characters, else into words.

    Example:
        >>> units(["Don't stop -- NOW!"], by_character=False), units(["你好, ok"], by_character=True)
        (['dont', 'stop', 'now'], ['你', '好', 'o', 'k'])
    """
    words = "\n".join(texts).lower().split()
    kept = ["".join(filter(str.isalnum, word)) for word in words]
    return [*"".join(kept)] if by_character else [word for word in kept if word]


def in_order(read: Sequence[str], wanted: Sequence[str]) -> float:
    """Return 1 - Levenshtein / longer length of two sequences of units.

    Example:
        >>> in_order(["b", "a"], ["a", "b"]), in_order(["a"], ["a", "b"])
        (0.0, 0.5)
    """
    numbers = {unit: chr(_FIRST + index) for index, unit in enumerate(dict.fromkeys((*read, *wanted)))}
    first, second = ("".join(map(numbers.__getitem__, sequence)) for sequence in (read, wanted))
    distance = int(edit_distance([first], [second], reduction="sum"))
    return 1 - distance / max(len(first), len(second), 1)


class LongTextMeasure:
    """LongText-Bench's accuracy, and its precision, F1 and order.

    ======================  ======================================================================
    ``longtext_accuracy``   matched units / units wanted, summed over images: a recall
    ``longtext_precision``  matched units / units read, summed
    ``longtext_f1``         2 matched units / (units wanted + units read), summed
    ``longtext_order``      mean over images of :func:`in_order`
    ======================  ======================================================================
    """

    name = ""
    columns: tuple[str, ...] = ("units_wanted", "units_read", "units_matched", "units_order")

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        by_character = bool(item.facts["by_character"])
        wanted, read = units(item.facts["texts"], by_character), units(seen.lines, by_character)
        numbers = (len(wanted), len(read), common(wanted, read), in_order(read, wanted))
        return dict(zip(self.columns, map(float, numbers), strict=True))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares."""
        wanted, read, matched = table["units_wanted"], table["units_read"], table["units_matched"]
        return {
            "longtext_accuracy": Share(matched, wanted),
            "longtext_precision": Share(matched, read),
            "longtext_f1": Share(2 * matched, wanted + read, n=int(wanted.sum())),
            "longtext_order": Share(table["units_order"], np.ones_like(wanted)),
        }


def read_longtext_bench(prompts: Path | None) -> Suite:
    """Read LongText-Bench.

    Args:
        prompts: a file of JSON lines, or a folder with one or more ``.jsonl`` files, such as the English and the
            Chinese list.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming a line that has another form, or an empty list.
    """
    path = needed_path(prompts, "longtext-bench", "its .jsonl file, or the folder with both")
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"prompts is {str(path)!r}, which has no .jsonl file")
    items = [_item(file.stem, entry, place) for file in files for place, entry in read_json_lines(file)]
    return Suite("longtext-bench", checked_items(items, path), (LongTextMeasure(),), _IMAGES, _DEFINITION)


def _item(stem: str, entry: Entry, place: str) -> Item:
    texts = texts_of(entry, "text", place)
    category = field(entry, "category", str, place)
    number = entry.get("prompt_id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise ValueError(f"{place} needs a prompt_id that is a number or a text; it is {number!r}")
    by_character = any(ord(character) in _HAN for text in texts for character in text)
    facts = {"texts": texts, "by_character": by_character, "category": category, "length": entry.get("length")}
    words = tuple(units(texts, by_character=False))
    return Item(f"{stem}/{number}", field(entry, "prompt", str, place), f"{stem}/{category}", words, facts)
