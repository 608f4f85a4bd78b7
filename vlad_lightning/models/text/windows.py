"""Prompts as windows of a tower's context, so that no word of a long prompt is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlad_lightning.layout.prompt_parser import Phrase

Fill = Literal["context", "longest", "steps"]

STEP = 16
"""Tokens by which the length of windows grows that are filled in steps."""


@dataclass(frozen=True)
class Windows:
    """``B`` prompts as up to ``K`` windows of ``L`` tokens each, special tokens included.

    Attributes:
        ids: (B, K, L) int64.
        mask: (B, K, L) bool: False at the padding.
        offsets: (B, K, L, 2) int64: the characters of each token, (0, 0) for special tokens and padding.
        present: (B, K) bool: which windows a prompt has; it always has the first.
    """

    ids: Tensor
    mask: Tensor
    offsets: Tensor
    present: Tensor


def cut_into_windows(
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    words: Sequence[Sequence[Phrase]],
    context: int,
    fill: Fill = "context",
) -> Windows:
    """Tokenize prompts; a prompt that does not fit becomes several windows, each with its own start and end token.

    A word to draw stays in one window, unless it is longer than a window.

    Args:
        tokenizer: a tokenizer that reports the characters of its tokens.
        prompts: B prompts.
        words: the words to draw of each prompt.
        context: the most tokens of a window.
        fill: up to where every window is filled with padding: ``context``; the ``longest`` of the batch; or the first
            multiple of :data:`STEP` that holds the longest.

    Raises:
        ValueError: if ``context`` has no room besides the special tokens.
    """
    start, end, added = _special(tokenizer)
    room = context - len(start) - len(end)
    if room < 1:
        raise ValueError(f"context is {context}; it must be above {len(start) + len(end)}, the special tokens")
    coded = tokenizer(list(prompts), return_offsets_mapping=True, verbose=False)
    rows: list[list[_Window]] = []
    for ids, offsets, spans in zip(coded["input_ids"], coded["offset_mapping"], words, strict=True):
        body = slice(len(start), len(ids) - added)
        rows.append(_cut(ids[body], offsets[body], spans, room))
    none = (0, 0)
    whole = [
        [([*start, *ids, *end], [*[none] * len(start), *offsets, *[none] * len(end)]) for ids, offsets in row]
        for row in rows
    ]
    length = context
    if fill != "context":
        longest = max(len(ids) for row in whole for ids, _ in row)
        length = longest if fill == "longest" else min(context, -(-longest // STEP) * STEP)
    return _stack(whole, length, _padding(tokenizer))


_Window = tuple[list[int], list[tuple[int, int]]]


def _special(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int], int]:
    """Return the ids before and after a prompt, and how many of the latter the tokenizer adds itself."""
    around = tokenizer("")["input_ids"]
    if around and around[-1] == tokenizer.eos_token_id:
        return around[:-1], around[-1:], 1
    return around, [tokenizer.eos_token_id], 0  # Qwen's adds none: one is needed to read a prompt, even an empty one


def _padding(tokenizer: PreTrainedTokenizerFast) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _cut(ids: list[int], offsets: list[tuple[int, int]], words: Sequence[Phrase], room: int) -> list[_Window]:
    """Cut tokens into stretches of at most ``room``; at least one, which may be empty."""
    found: list[_Window] = []
    start = 0
    while len(ids) - start > room:
        end = _before_word(offsets, words, start, start + room)
        found.append((ids[start:end], offsets[start:end]))
        start = end
    return [*found, (ids[start:], offsets[start:])]


def _before_word(offsets: list[tuple[int, int]], words: Sequence[Phrase], start: int, end: int) -> int:
    """Return ``end``, or the first token of the word that a window from ``start`` to ``end`` would cut in two."""
    for word in words:
        inside = [i for i, (a, b) in enumerate(offsets) if a < word.end and b > word.start]
        if inside and start < inside[0] < end <= inside[-1]:
            return inside[0]
    return end


def _stack(rows: list[list[_Window]], length: int, padding: int) -> Windows:
    size, most = len(rows), max(map(len, rows))
    counts = np.array([[len(ids) for ids, _ in row] + [0] * (most - len(row)) for row in rows])
    mask = np.arange(length) < counts[..., None]  # (B, K, L)
    ids = np.full((size, most, length), padding, dtype=np.int64)
    offsets = np.zeros((size, most, length, 2), dtype=np.int64)
    # all tokens at once, in the order of the mask: conversions of many short lists take longer
    ids[mask] = [token for row in rows for tokens, _ in row for token in tokens]
    offsets[mask] = [pair for row in rows for _, characters in row for pair in characters]
    present = np.array([[k < len(row) for k in range(most)] for row in rows])
    return Windows(*map(torch.from_numpy, (ids, mask, offsets, present)))
