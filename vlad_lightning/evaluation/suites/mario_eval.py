"""MARIO-Eval, twice: to the letter of its published script, and with what is unsound in it put right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.evaluation.suite import Item, Pooled, Seen, Suite
from vlad_lightning.evaluation.suites.prompt_files import needed_path, numbered_lines
from vlad_lightning.evaluation.suites.word_measure import WordMeasure
from vlad_lightning.layout.prompt_parser import drawn_words, has_single_quotes
from vlad_lightning.metrics.ocr import mario_f, mario_keywords, mario_score
from vlad_lightning.metrics.per_image import Share

PROMPTS = 5414
"""Prompts of all subsets, as published."""

SUBSETS: dict[str, tuple[str, ...]] = {
    "LAIONEval4000": ("LAIONEval4000",),
    "TMDBEval500": ("TMDBEval500",),
    "OpenLibraryEval500": ("OpenLibraryEval500", "OpenLibrary500"),
    "DrawBenchText": ("DrawBenchText",),
    "DrawTextCreative": ("DrawTextCreative",),
    "ChineseDrawText": ("ChineseDrawText",),
}
"""The subsets, each with the names that its folder has in one source or another."""

_IMAGES = 4
_JPEG_QUALITY = 75
_WHERE = "MARIO-Eval, arXiv 2305.10855 and the code published with it"
_PUBLISHED = (
    f"{_WHERE}, to the letter: keywords are what stands between any two ASCII apostrophes, an OCR line is one entry, "
    "four images a prompt from one running generator (seed 0 a process, so an image depends on every prompt before it "
    "and on the number of processes), stored as JPEG of quality 75."
)
_SOUND = (
    f"The prompts of {_WHERE}; instead of its script: a seed for each prompt and image, images as generated, words "
    "from quotes alone (an apostrophe in a word is none), lines split into words, each drawing counted once. "
    "MARIO-Eval's own figures stand beside them."
)


class MarioMeasure:
    """MARIO-Eval's precision, recall, accuracy and F of the prompt's keywords, see ``metrics.ocr.mario_score``.

    ``mario_f`` is that of the mean precision and the mean recall over all images; it is not the mean of F.
    """

    name = ""
    columns: tuple[str, ...] = ("mario_precision", "mario_recall", "mario_accuracy")

    def row(self, item: Item, seen: Seen) -> dict[str, float]:
        """Return the numbers of one image."""
        score = mario_score(seen.lines, mario_keywords(item.prompt))
        return dict(zip(self.columns, (score.precision, score.recall, float(score.accuracy)), strict=True))

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the means over all images."""
        return {name: Share(table[name], np.ones_like(table[name])) for name in self.columns}

    def pooled(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Pooled]:
        """Return ``mario_f``."""
        return {"mario_f": Pooled(mario_f, (table["mario_precision"], table["mario_recall"]))}


def read_mario_eval(prompts: Path | None) -> Suite:
    """Read MARIO-Eval as published.

    Args:
        prompts: the folder ``MARIOEval``, with ``<subset>/<subset>.txt`` for each of the six subsets.

    Raises:
        FileNotFoundError: naming a folder or file that is missing.
        ValueError: naming a subset without prompts.
    """
    items = _read_items(prompts, "mario-eval")
    return Suite(
        "mario-eval",
        items,
        (MarioMeasure(), WordMeasure()),
        _IMAGES,
        _PUBLISHED,
        jpeg_quality=_JPEG_QUALITY,
        seeding="running",
        notes=_notes(items),
    )


def read_mario_eval_sound(prompts: Path | None) -> Suite:
    """Read MARIO-Eval's prompts for sound figures; arguments and errors as for :func:`read_mario_eval`."""
    items = _read_items(prompts, "mario-eval-sound")
    return Suite("mario-eval-sound", items, (WordMeasure(), MarioMeasure()), _IMAGES, _SOUND, notes=_notes(items))


def _read_items(prompts: Path | None, suite: str) -> tuple[Item, ...]:
    root = needed_path(prompts, suite, "the folder MARIOEval with its six subsets")
    items = []
    for subset, spellings in SUBSETS.items():
        for index, prompt in numbered_lines(_list_of(root, spellings)):
            items.append(Item(f"{subset}/{index}", prompt, subset, drawn_words(prompt)))
    return tuple(items)


def _list_of(root: Path, spellings: tuple[str, ...]) -> Path:
    """Return the list of a subset; folder and file may be spelt differently."""
    for folder in spellings:
        for file in (folder, *spellings):
            if (root / folder / f"{file}.txt").is_file():
                return root / folder / f"{file}.txt"
    named = " or ".join(f"{name}/{name}.txt" for name in spellings)
    raise FileNotFoundError(f"prompts is {str(root)!r}, which lacks {named}; all six subsets of MARIO-Eval are needed")


def _notes(items: tuple[Item, ...]) -> tuple[str, ...]:
    notes = []
    if len(items) != PROMPTS:
        notes.append(f"{len(items):,} prompts were found; MARIO-Eval has {PROMPTS:,}.")
    unlike = sum(mario_keywords(item.prompt) != [word.lower() for word in drawn_words(item.prompt)] for item in items)
    if unlike:
        notes.append(
            f"In {unlike:,} prompts MARIO-Eval's keywords differ from the words in quotes, as where an apostrophe in a "
            "word counts as a quote."
        )
    without = sum(not has_single_quotes(item.prompt) for item in items)
    if without:
        notes.append(f"{without:,} prompts have no words in single quotes.")
    return tuple(notes)
