"""The words that the tokens of a prompt belong to, as TextDiffuser's layout transformer is told them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.layout.fonts import load_font
from vlad_lightning.layout.prompt_parser import Phrase
from vlad_lightning.models.text.windows import Windows

KINDS = ("start of a word", "its continuation", "other text and special tokens", "padding")
"""The states of a token, by number."""

_WORD = re.compile(r"[^\W_]+")  # punctuation belongs to no word
_FONT_SIZE = 24  # pixels: that at which TextDiffuser measures words


@dataclass(frozen=True)
class TokenWords:
    """What the tokens of ``B`` prompts belong to.

    Attributes:
        marked: (B, L) int64: 1 for the first token of each word to draw, else 0.
        widths: (B, L) int64: width of the token's word, drawn or not, in pixels of a font of 24 px; 0 without a word.
        lengths: (B, L) int64: its characters.
        kinds: (B, L) int64: index in :data:`KINDS`.
    """

    marked: Tensor
    widths: Tensor
    lengths: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> TokenWords:
        """Return the same on ``device``."""
        return TokenWords(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def token_words(prompts: Sequence[str], windows: Windows, drawn: Sequence[Sequence[Phrase]]) -> TokenWords:
    """Find the word of each token.

    Args:
        prompts: B prompts.
        windows: their tokens; the windows are read side by side.
        drawn: the words to draw of each prompt.
    """
    offsets, mask = windows.offsets.flatten(1, 2).numpy(), windows.mask.flatten(1).numpy()
    rows = [_row(*row) for row in zip(prompts, offsets, mask, drawn, strict=True)]
    marked, widths, lengths, kinds = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return TokenWords(marked, widths, lengths, kinds)


def _row(prompt: str, offsets: np.ndarray, mask: np.ndarray, drawn: Sequence[Phrase]) -> tuple[np.ndarray, ...]:
    """Return the four rows of one prompt, (L,) int64 each."""
    words = list(_WORD.finditer(prompt))
    starts, ends = (np.array([edge(word) for word in words], dtype=np.int64) for edge in (re.Match.start, re.Match.end))
    first, last = offsets.T  # of each token; a byte-level token may begin with the space before its word
    word = np.searchsorted(starts, last - 1, side="right") - 1
    inside = (last > first) & (word >= 0)
    inside[inside] = ends[word[inside]] > first[inside]
    sizes = np.array([(_width(w.group()), len(w.group())) for w in words] or [(0, 0)], dtype=np.int64)
    widths, lengths = np.where(inside, sizes[word.clip(min=0)].T, 0)
    same = inside[1:] & inside[:-1] & (word[1:] == word[:-1])
    continued = np.concatenate([[False], same])
    kinds = np.where(inside, np.where(continued, 1, 0), np.where(mask, 2, 3))
    marked = np.zeros(len(offsets), dtype=np.int64)
    for phrase in drawn:
        touched = np.flatnonzero((first < phrase.end) & (last > phrase.start))
        marked[touched[:1]] = 1
    return marked, widths, lengths, kinds


@lru_cache(maxsize=8192)
def _width(word: str) -> int:
    left, _, right, _ = load_font(None, _FONT_SIZE).getbbox(word)
    return round(right - left)
