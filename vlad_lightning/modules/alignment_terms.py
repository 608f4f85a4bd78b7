"""Optional loss terms of stage 0 beside Eq. 3: edited captions as negatives, and phrases against patches."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.layout.caption_edits import KINDS, edit_caption
from vlad_lightning.layout.masks import fills_frame
from vlad_lightning.layout.prompt_parser import Phrase
from vlad_lightning.limits import check_idle
from vlad_lightning.models.contrastive import phrase_nce, phrase_similarity, region_nce
from vlad_lightning.models.conv_tower import VisionStates
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.modules.preparation import ParsedTexts
from vlad_lightning.types import Batch, Conditioning, Negatives, ParsedPrompts, PhrasePairs


@dataclass(frozen=True)
class AlignmentTerms:
    """Optional terms beside Eq. 3; all are off by default.

    Attributes:
        edits: H, the number of untrue captions per image in the softmax over texts, each with one thing changed.
        phrase_weight: weight of Eq. 3 with the mean over phrases of the best patch's cosine instead of the pooled
            cosine, within a device's batch.
        region_weight: weight of the contrast between phrases with a known box and the patches at their boxes' centres,
            within a device's batch.
        kinds: kinds of the edits, among :data:`~vlad_lightning.layout.caption_edits.KINDS`. The other captions of a
            batch already teach colours; edits help most where no other caption differs in just that one thing.
        seed: seed of the edits, which depend on it, the step and the sample's key.

    Raises:
        ValueError: where a number is below 0, a kind is unknown, ``kinds`` is empty although ``edits`` is set, or
            ``kinds`` or ``seed`` is set although ``edits`` is 0.
    """

    edits: int = 0
    phrase_weight: float = 0.0
    region_weight: float = 0.0
    kinds: tuple[str, ...] = KINDS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("edits", "phrase_weight", "region_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds has {', '.join(sorted(unknown))}; allowed: {', '.join(KINDS)}")
        if self.edits == 0:
            check_idle(self, ["kinds", "seed"], "no captions are edited: edits is 0")
        elif not self.kinds:
            raise ValueError(f"kinds is empty, and edits is {self.edits}; allowed: {', '.join(KINDS)}")

    @property
    def local(self) -> bool:
        """Whether patches are trained; if so, they also count in the score."""
        return self.phrase_weight > 0 or self.region_weight > 0

    def edited(self, batch: Batch, step: int, words: Sequence[str]) -> list[str]:
        """Return H edits per prompt, prompt by prompt, of different kinds while the prompt allows it.

        If a prompt allows fewer than H kinds, its last edit is repeated; if it allows none, its edits are empty texts.

        Args:
            batch: B prompts with their keys.
            step: step of the optimizer.
            words: words that may replace a word to draw.
        """
        found: list[str] = []
        for prompt, key in zip(batch.prompts, batch.keys, strict=True):
            rng = random.Random(f"{self.seed} {step} {key}")
            own: list[str] = []
            for kind in rng.sample(self.kinds, len(self.kinds)) if self.edits else ():
                edit = edit_caption(prompt, kind, rng, words=words)
                own += [edit] if edit is not None else []
                if len(own) == self.edits:
                    break
            found += own + (own[-1:] or [""]) * (self.edits - len(own))
        return found

    def negatives(self, parser: PromptParser, batch: Batch, step: int, words: Sequence[str]) -> Negatives:
        """Return the edits of a batch, parsed together with its prompts, on the CPU; see :meth:`edited`."""
        return self.contrasted(parser, batch, self.edited(batch, step, words), step)

    def contrasted(self, parser: PromptParser, batch: Batch, edited: Sequence[str], step: int = 0) -> Negatives:
        """Build the negatives from B H edits, on the CPU.

        Args:
            parser: parser of the encoder that will read them.
            batch: B samples.
            edited: B H edits in the order of :meth:`edited`.
            step: step of the optimizer.
        """
        parsed = parser([*batch.prompts, *edited], cut_padding=True)  # only pooled vectors and phrases are read
        pairs = self._pairs(parser, batch, edited, parsed) if self.local else None
        return Negatives(step, tuple(edited), parsed, pairs)

    def _pairs(self, parser: PromptParser, batch: Batch, edited: Sequence[str], parsed: ParsedPrompts) -> PhrasePairs:
        mask = parsed.phrase_mask[: len(batch)]
        boxes, known = (x.cpu() for x in _boxes(batch, parser))
        known = known & mask & ~fills_frame(boxes)  # an object may cover the background's centre
        rows = known.tolist()
        untrue = [
            (i, slot)
            for i, text in enumerate(edited if self.region_weight else ())
            for slot in _untrue_slots(parser, batch.prompts[i // self.edits], text, rows[i // self.edits])
        ]
        found = torch.tensor(untrue, dtype=torch.int64).view(-1, 2)
        return PhrasePairs(mask.nonzero(), known.nonzero(), boxes[known], found)

    def losses(
        self, negatives: Negatives, seen: VisionStates, texts: Conditioning, temperature: Tensor
    ) -> dict[str, Tensor]:
        """Return the local terms of a batch by name, each multiplied by its weight.

        Args:
            negatives: negatives of B samples, with their pairs.
            seen: vision states of the B images.
            texts: (B + B H, ...): the encoder's output for the prompts and their edits.
            temperature: tau.
        """
        assert negatives.pairs is not None
        pairs, size = negatives.pairs, len(seen.pooled)
        patches = seen.patches.flatten(1, 2)  # (B, G, D)
        phrases, mask = texts.phrases[:, 1:], texts.phrase_mask[:, 1:]
        losses = {}
        if self.phrase_weight:
            owner = torch.arange(size, device=mask.device).repeat_interleave(self.edits)
            untrue = phrase_similarity(phrases[size:], mask[size:], patches[owner]).view(size, -1)
            loss = phrase_nce(phrases[:size], mask[:size], patches, temperature, untrue, pairs.named)
            losses["phrases"] = self.phrase_weight * loss
        if self.region_weight:
            row, slot = pairs.placed.unbind(1)
            at = _patch_of(pairs.boxes, seen.patches.shape[1:3])
            others = phrases[size + pairs.untrue[:, 0], pairs.untrue[:, 1]]
            loss = region_nce(phrases[row, slot], patches, row, at, temperature, others)
            losses["regions"] = self.region_weight * loss
        return losses


@dataclass(frozen=True)
class ContrastedTexts:
    """Parser of a batch's prompts and, in training, of its negative captions.

    Attributes:
        parser: parser of the prompt encoder that will read them; its tokenizer may be set later.
        terms: decides which captions are edited, and how.
        words: words that may replace a word to draw.
    """

    parser: PromptParser
    terms: AlignmentTerms
    words: tuple[str, ...]

    def __call__(self, batch: Batch, step: int | None = None) -> Batch:
        """Return the batch with its texts parsed, or unchanged without a tokenizer: the encoder raises that error."""
        if step is None or self.parser.tokenizer is None:
            return ParsedTexts(self.parser, cut_padding=True)(batch)
        return replace(batch, negatives=self.terms.negatives(self.parser, batch, step, self.words))


def _untrue_slots(parser: PromptParser, prompt: str, edited: str, known: Sequence[bool]) -> list[int]:
    """Return the slots with a known box for which the edit says something else than the prompt.

    If no phrase with a box has a new text, the edit changed a position: that of the last such phrase before the change.
    """
    before, after = _slots(parser, prompt), _slots(parser, edited)
    pairs = list(zip(before, after, known, strict=True))
    if any((a is None) != (b is None) for a, b, _ in pairs):
        return []
    changed = [i for i, (a, b, box) in enumerate(pairs) if box and a and b and a.text != b.text]
    at = next((i for i, (a, b) in enumerate(zip(prompt, edited, strict=False)) if a != b), len(prompt))
    earlier = [(a.end, i) for i, (a, _, box) in enumerate(pairs) if box and a and a.end <= at]
    return changed or [i for _, i in sorted(earlier)[-1:]]


def _slots(parser: PromptParser, prompt: str) -> list[Phrase | None]:
    """Return the M phrase slots in the encoder's order; an empty slot is None."""
    parts = parser.decompose(prompt)
    words: list[Phrase | None] = [*parts.words[: parser.max_words]]
    objects: list[Phrase | None] = [*parts.objects[: parser.max_objects]]
    words += [None] * (parser.max_words - len(words))
    return words + objects + [None] * (parser.max_objects - len(objects))


def _boxes(batch: Batch, parser: PromptParser) -> tuple[Tensor, Tensor]:
    """Return the phrases' boxes (B, M, 5) in the encoder's order, and which are known (B, M) bool; padded if short."""
    boxes, known = [], []
    for box, mask, slots in (
        (batch.word_boxes, batch.word_mask, parser.max_words),
        (batch.object_boxes, batch.object_mask, parser.max_objects),
    ):
        more = max(0, slots - box.shape[1])
        boxes.append(F.pad(box[:, :slots], (0, 0, 0, more)))
        known.append(F.pad(mask[:, :slots], (0, more)))
    return torch.cat(boxes, dim=1), torch.cat(known, dim=1)


def _patch_of(boxes: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the patch that holds each box's centre, (K, 5) -> (K,) int64; the nearest patch if it is off the frame."""
    height, width = grid
    column = (boxes[:, 0] * width).long().clamp(0, width - 1)
    return (boxes[:, 1] * height).long().clamp(0, height - 1) * width + column
