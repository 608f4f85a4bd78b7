"""Parsing and tokenizing of prompts before a text encoder's weights: needs no device, so a data loader can do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlad_lightning.layout.prompt_parser import Decomposition, PromptDecomposer
from vlad_lightning.models.text.windows import Fill, Windows, cut_into_windows
from vlad_lightning.types import ParsedPrompts

_PHRASE_STEP = 4  # of the number of phrases that are composed together: there are few to compile for

NO_LETTER = 256
"""The padding after the bytes of a word."""


class PromptParser:
    """A parser and tokenizer of prompts for one text encoder, which holds it and shares its tokenizer.

    Args:
        max_words: N, the most words to draw of a prompt.
        max_objects: the most further phrases that are kept.
        max_letters: the most bytes of UTF-8 of a word that are spelt.
        context: the most tokens of a window.
        pad_to_context: fill every window up to ``context`` with padding, as most towers were trained; False fills up to
            the longest of the batch.
        hides_padding: hide the padding from the image generator.
        causal: whether the tower's states of a prompt do not depend on the padding after it.
    """

    def __init__(
        self,
        max_words: int,
        max_objects: int,
        max_letters: int,
        context: int,
        pad_to_context: bool,
        hides_padding: bool,
        causal: bool = False,
    ) -> None:
        self.max_words, self.max_objects, self.max_letters = max_words, max_objects, max_letters
        self.context, self.pad_to_context, self.hides_padding = context, pad_to_context, hides_padding
        self.causal = causal
        self.decompose = PromptDecomposer()
        self.tokenizer: PreTrainedTokenizerFast | None = None

    def __call__(self, prompts: Sequence[str], cut_padding: bool = False) -> ParsedPrompts:
        """Parse B prompts, on the CPU; words beyond ``max_words`` and objects beyond ``max_objects`` are left out.

        Args:
            prompts: B prompts.
            cut_padding: fill windows only up to the longest one, in steps of 16 tokens, so that there are few lengths
                to compile for. For readers that ignore the states of padding; without effect where the tower does not.

        Raises:
            RuntimeError: if there is no tokenizer yet.
        """
        if self.tokenizer is None:
            raise RuntimeError("the text encoder has no tokenizer: train one, load one, or load a checkpoint")
        parts = [self.decompose(p) for p in prompts]
        words = [p.words[: self.max_words] for p in parts]
        fill: Fill = "context" if self.pad_to_context else "longest"
        if cut_padding and self.pad_to_context and self.causal:
            fill = "steps"
        windows = cut_into_windows(self.tokenizer, prompts, words, self.context, fill)
        present = windows.present.flatten()
        spans = torch.tensor([self._spans(p) for p in parts]).view(len(parts), -1, 2)  # (B, M, 2)
        letters, spelt, spelt_at = self._spelt(parts, spans.shape[1])
        most = int((spans[..., 1] > 0).sum(dim=1).max())
        return ParsedPrompts(
            ids=windows.ids.flatten(0, 1)[present],
            mask=windows.mask.flatten(0, 1)[present],
            rows=present.nonzero()[:, 0],
            windows=windows.present,
            token_mask=windows.mask.flatten(1),
            read_mask=self._readable(windows),
            inside=_overlap(windows.offsets.flatten(1, 2), spans),
            phrase_mask=spans[..., 1] > 0,
            order=_ranks(spans),
            word_groups=torch.tensor([self._groups(p) for p in parts]).view(len(parts), -1, 2),
            letters=letters,
            spelt=spelt,
            spelt_at=spelt_at,
            most_phrases=min(max(1, -(-most // _PHRASE_STEP)) * _PHRASE_STEP, spans.shape[1]),
        )

    def _readable(self, windows: Windows) -> Tensor | None:
        """Return the states that an image generator may attend to, (B, K L) bool; None means all."""
        if self.hides_padding:
            return windows.mask.flatten(1)
        if windows.present.shape[1] == 1:
            return None
        return windows.present.repeat_interleave(windows.ids.shape[-1], dim=1)

    def _spelt(self, parts: Sequence[Decomposition], phrase_slots: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``letters``, ``spelt`` and ``spelt_at`` of each word to draw and of the words of each other phrase."""
        words = [(b, k, w.text) for b, p in enumerate(parts) for k, w in enumerate(p.words[: self.max_words])]
        others = [
            (b, self.max_words + k, word)
            for b, p in enumerate(parts)
            for k, phrase in enumerate(p.objects[: self.max_objects])
            for word in phrase.text.casefold().split()
        ]
        every = [*words, *others]
        distinct = {text: i for i, text in enumerate(dict.fromkeys(text for *_, text in every))}
        spelt = torch.tensor([distinct[text] for *_, text in every], dtype=torch.int64)
        spelt_at = torch.tensor([row * phrase_slots + slot for row, slot, _ in every], dtype=torch.int64)
        # the empty word if there is none: a weight that one process uses and another does not is an error
        return letters_of(list(distinct) or [""], self.max_letters), spelt, spelt_at

    def _spans(self, parts: Decomposition) -> list[tuple[int, int]]:
        """Return M spans, words first, (0, 0) if there is none."""
        words = [(p.start, p.end) for p in parts.words[: self.max_words]]
        objects = [(p.start, p.end) for p in parts.objects[: self.max_objects]]
        return [
            *words,
            *[(0, 0)] * (self.max_words - len(words)),
            *objects,
            *[(0, 0)] * (self.max_objects - len(objects)),
        ]

    def _groups(self, parts: Decomposition) -> list[tuple[int, int]]:
        """Return the quoted span of each of N words and its rank in the span, (0, 0) if there is no word."""
        groups = parts.groups[: self.max_words]
        ranked = [(group, i - groups.index(group)) for i, group in enumerate(groups)]
        return [*ranked, *[(0, 0)] * (self.max_words - len(ranked))]


def letters_of(words: Sequence[str], size: int) -> Tensor:
    """Return the first bytes of each word in UTF-8, (K, size) int64, padded with :data:`NO_LETTER`."""
    spelt = [word.encode()[:size] for word in words]
    letters = np.frombuffer(b"".join(word.ljust(size) for word in spelt), dtype=np.uint8).reshape(len(spelt), size)
    past = np.arange(size) >= np.array([len(word) for word in spelt])[:, None]
    return torch.from_numpy(np.where(past, NO_LETTER, letters.astype(np.int64)))


def _overlap(offsets: Tensor, spans: Tensor) -> Tensor:
    """Return which tokens, with characters ``offsets`` (B, L, 2), overlap the spans (B, M, 2): (B, M, L) bool."""
    return (offsets[:, None, :, 0] < spans[..., None, 1]) & (offsets[:, None, :, 1] > spans[..., None, 0])


def _ranks(spans: Tensor) -> Tensor:
    """Rank the spans by their starts, (B, M); absent ones, which end at 0, come last."""
    starts = torch.where(spans[..., 1] > 0, spans[..., 0], torch.iinfo(spans.dtype).max)
    return starts.argsort(dim=1, stable=True).argsort(dim=1)
