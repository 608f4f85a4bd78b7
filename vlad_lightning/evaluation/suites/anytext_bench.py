"""AnyText-bench (arXiv 2311.03054): Sen.ACC and NED of text lines with true places, and the same without places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchmetrics.functional.text import edit_distance

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.evaluation.suite import Item, Seen, Suite
from vlad_lightning.evaluation.suites.prompt_files import (
    Entry,
    checked_items,
    checked_object,
    field,
    needed_path,
    read_data_list,
)
from vlad_lightning.evaluation.suites.word_measure import WordMeasure
from vlad_lightning.limits import shown
from vlad_lightning.metrics.per_image import Share

SUBSETS = ("laion_word", "wukong_word")
FRAME = 512
"""Side of the frame in which polygons are given, in pixels."""

_IMAGES = 4
_MOST_LINES, _MOST_CHARACTERS = 20, 20
_EPSILON = 1e-5
_DEFINITION = (
    "AnyText-bench, arXiv 2311.03054: a line counts in anytext_sen_acc if it reads exactly, case and spaces included; "
    "anytext_ned is 1 - Levenshtein / (longer length + 1e-5), a mean over lines; at most 20 lines of 20 characters. "
    "Differs in three ways: the words that the reader finds on the whole image with their centre in the line's polygon "
    "are the line read (the original reads a crop); any reader (the original has ModelScope's convnextTiny); and the "
    "prompt names the texts in quotes after the caption in one fixed form (the original draws one of several phrases "
    "and gives the texts as pictures). Beside them, for systems without places: anytext_sen_acc_anywhere and "
    "anytext_ned_anywhere pair the lines read, wherever they are, one to one with the lines wanted."
)


def anytext_ned(read: str, wanted: str) -> float:
    """Return AnyText's normalised similarity of a line.

    Example:
        >>> round(anytext_ned("SALT", "SALE"), 4)
        0.75
    """
    return 1 - _distances([(read, wanted)])[0] / (max(len(read), len(wanted)) + _EPSILON)


def _distances(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Return the Levenshtein distance of each pair; torchmetrics is asked only where the two differ."""
    unlike = [pair for pair in pairs if pair[0] != pair[1]]
    if not unlike:
        return [0] * len(pairs)
    first, second = zip(*unlike, strict=True)
    found = iter(edit_distance(first, second, reduction="none").int().tolist())
    return [0 if one == other else next(found) for one, other in pairs]


def text_inside(polygon: Sequence[Sequence[float]], words: Sequence[OcrWord]) -> str:
    """Return the words whose centre lies in a polygon, in the reader's order, with spaces between them.

    Args:
        polygon: (N, 2) corners, in pixels of :data:`FRAME`.
        words: the words read on the whole image.
    """
    shape = shapely.make_valid(shapely.Polygon(np.asarray(polygon, dtype=np.float64) / FRAME))
    centres = [word.quad.mean(axis=0).tolist() for word in words]
    return " ".join(
        word.text for word, (x, y) in zip(words, centres, strict=True) if shapely.intersects_xy(shape, x, y)
    )


def best_pairs(read: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return for each line wanted the line read that it is paired with, or an empty text; the summed NED is highest."""
    paired = [""] * len(wanted)
    if read and wanted:
        pairs = [(line, text) for text in wanted for line in read]
        longest = np.array([max(map(len, pair)) for pair in pairs]) + _EPSILON
        value = (1 - np.asarray(_distances(pairs)) / longest).reshape(len(wanted), len(read))
        for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            paired[row] = read[column]
    return paired


class AnyTextMeasure:
    """Sen.ACC and NED over text lines, in their polygons and anywhere.

    ============================  ============================================================
    ``anytext_sen_acc``           share of the lines that read exactly, within their polygons
    ``anytext_ned``               mean over the lines of :func:`anytext_ned`, within polygons
    ``anytext_sen_acc_anywhere``  the same with the lines read anywhere, paired one to one
    ``anytext_ned_anywhere``      likewise
    ============================  ============================================================
    """

    name = ""
    columns: tuple[str, ...] = ("lines", "lines_exact", "lines_ned", "lines_exact_anywhere", "lines_ned_anywhere")

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the counts of one image."""
        texts, polygons = item.facts["texts"], item.facts["polygons"]
        inside = [text_inside(polygon, seen.words) for polygon in polygons]
        anywhere = best_pairs([line.strip() for line in seen.lines], texts)
        numbers = [float(len(texts))]
        for read in (inside, anywhere):
            pairs = list(zip(read, texts, strict=True))
            numbers += [float(sum(line == text for line, text in pairs)), sum(anytext_ned(*pair) for pair in pairs)]
        return dict(zip(self.columns, numbers, strict=True))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the means over lines."""
        parts = {
            "anytext_sen_acc": "lines_exact",
            "anytext_ned": "lines_ned",
            "anytext_sen_acc_anywhere": "lines_exact_anywhere",
            "anytext_ned_anywhere": "lines_ned_anywhere",
        }
        return {name: Share(table[part], table["lines"]) for name, part in parts.items()}


def read_anytext_bench(prompts: Path | None) -> Suite:
    """Read AnyText-bench.

    Args:
        prompts: the folder with ``laion_word/test1k.json`` and ``wukong_word/test1k.json``; one of them is enough.

    Raises:
        FileNotFoundError: if neither is there.
        ValueError: naming an entry that has another form, or an empty list.
    """
    root = needed_path(prompts, "anytext-bench", "the folder with laion_word and wukong_word")
    items: list[Item] = []
    lists = [subset for subset in SUBSETS if (root / subset / "test1k.json").is_file()]
    if not lists:
        raise FileNotFoundError(f"prompts is {str(root)!r}, which has neither {' nor '.join(_files())}")
    for subset in lists:
        items += [_item(subset, entry, place) for place, entry in read_data_list(root / subset / "test1k.json")]
    notes = tuple(
        f"{subset}/test1k.json is missing, and its prompts with it." for subset in SUBSETS if subset not in lists
    )
    measures = (AnyTextMeasure(), WordMeasure())
    return Suite("anytext-bench", checked_items(items, root), measures, _IMAGES, _DEFINITION, notes=notes)


def _files() -> list[str]:
    return [f"{subset}/test1k.json" for subset in SUBSETS]


def _item(subset: str, entry: Entry, place: str) -> Item:
    name = field(entry, "img_name", str, place).partition(".")[0]
    caption = field(entry, "caption", str, place).replace("*", " ")
    annotations = field(entry, "annotations", list, place) if "annotations" in entry else []
    lines = [_line(checked_object(line, place), place) for line in annotations if _counts(line, place)][:_MOST_LINES]
    texts = [text for text, _ in lines]
    told = ", ".join(f'"{text}"' for text in texts)
    prompt = f"{caption}, that reads {told}" if texts else caption
    words = tuple(word for text in texts for word in text.split())
    facts = {"texts": texts, "polygons": [polygon for _, polygon in lines]}
    return Item(f"{subset}/{name}", prompt, subset, words, facts)


def _counts(annotation: Any, place: str) -> bool:
    """Return whether a line counts: it is valid, and has a polygon."""
    line = checked_object(annotation, place)
    return line.get("valid", True) is not False and bool(field(line, "polygon", list, place))


def _line(annotation: Entry, place: str) -> tuple[str, list[list[float]]]:
    """Return the text of a line, cut as AnyText cuts it, and its polygon."""
    text = field(annotation, "text", str, place)[:_MOST_CHARACTERS]
    try:
        polygon = np.asarray(annotation["polygon"], dtype=np.float64)
    except (TypeError, ValueError):
        polygon = np.empty(0)
    if polygon.ndim != 2 or polygon.shape[0] < 3 or polygon.shape[1] != 2 or not np.isfinite(polygon).all():
        raise ValueError(f"{place}: polygon is {shown(annotation['polygon'])}; it must be three or more corners [x, y]")
    return text, polygon.tolist()
