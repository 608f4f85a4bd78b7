"""A suite of the user's own prompts, without a definition beyond the words that they put in quotes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.evaluation.suite import Item, Seen, Suite
from vlad_lightning.files import LIST_BYTES, read_prompt_lines, read_utf8, told_at
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts, shown
from vlad_lightning.metrics.ocr import OCRMetrics, mario_targets, ocr_row, word_shares
from vlad_lightning.metrics.per_image import Share

PLAIN = "prompts"
"""The name of such a suite."""

_JSON_LINES = (".jsonl", ".ndjson")
_FIELDS = {"key", "prompt", "words", "subset"}


class PromptMeasure:
    """The metrics of :class:`~vlad_lightning.metrics.ocr.OCRMetrics`, over the words of the items."""

    name: str = ""
    columns: tuple[str, ...] = OCRMetrics.columns

    def row(self, item: Item, seen: Seen) -> Mapping[str, float]:
        """Return the numbers of one image; MARIO-Eval's words are those that its rule finds in the prompt."""
        own = list(drawn_words(item.prompt)) == list(item.words)
        return ocr_row(seen.lines, item.words, mario_targets(item.prompt) if own else item.words)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> Mapping[str, Share]:
        """Return the figures as shares; ``mario_f`` follows from two of them."""
        each = np.ones_like(table["wanted"])
        words = word_shares(table) if table["wanted"].any() else {}
        mario = {name: Share(table[name], each) for name in self.columns if name.startswith("mario_")}
        return {**words, "sentence_accuracy": Share(table["all_read"], each), **mario}


def read_plain_suite(path: Path) -> Suite:
    """Read prompts from a file: a text file with one a line, or JSON Lines.

    The keys of a text file are the prompts' numbers from 0; its blank lines are skipped. A line of JSON is ``{"prompt":
    ..., "key": ..., "words": [...], "subset": ...}``: without ``key`` its number, without ``words`` those in quotes,
    without ``subset`` the subset ``all``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line, if it is not in UTF-8, has no prompts, or a line cannot be used.
    """
    with told_at(f"--prompts {path}"):
        if path.suffix.lower() in _JSON_LINES:
            lines = [line for line in read_utf8(path, LIST_BYTES).splitlines() if line.strip()]
            items = [_from_json(number, line) for number, line in enumerate(lines)]
        else:
            items = [_item(number, {"prompt": line}) for number, line in enumerate(read_prompt_lines(path))]
        if not items:
            raise ValueError("it holds no prompt")
    return Suite(
        PLAIN, tuple(items), (PromptMeasure(),), definition="prompts of a file; words to read are those in quotes"
    )


def _from_json(number: int, line: str) -> Item:
    with told_at(f"line {number + 1}"):
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON: {error}") from error
        if not isinstance(given, dict) or "prompt" not in given:
            raise ValueError(f"it is {shown(given)}; it must be a mapping with a prompt")
        if unknown := sorted(given.keys() - _FIELDS):
            raise ValueError(f"it has {', '.join(map(repr, unknown))}; allowed are {', '.join(sorted(_FIELDS))}")
        return _item(number, given)


def _item(number: int, given: Mapping[str, Any]) -> Item:
    prompt = given["prompt"]
    check_prompts([prompt])
    words = given.get("words")
    key, subset = given.get("key", str(number)), given.get("subset", "all")
    for name, value in (("key", key), ("subset", subset)):
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is {shown(value)}; it must be a text")
    if words is not None and not _are_texts(words):
        raise ValueError(f"words is {shown(words)}; it must be a list of texts")
    return Item(key, prompt, subset, tuple(drawn_words(prompt) if words is None else words))


def _are_texts(words: object) -> bool:
    return isinstance(words, Sequence) and not isinstance(words, str) and all(isinstance(word, str) for word in words)
