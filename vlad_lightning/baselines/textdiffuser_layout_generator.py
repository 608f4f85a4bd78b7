"""TextDiffuser's first stage: prompts in, layouts of upright boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from vlad_lightning.baselines.textdiffuser_layout import MOST_INDEX, LayoutTransformer, PromptTokens
from vlad_lightning.baselines.textdiffuser_tokens import token_words
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.layout.overlaps import resolve_overlaps
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.text.windows import Fill, cut_into_windows
from vlad_lightning.types import Batch, Layout, ParsedPrompts

_JITTER = 3  # pixels
_LEAST = 0.01  # of the frame: the smallest width and height of a box


class WordLayoutGenerator(nn.Module):
    """The layout transformer with all it needs to turn prompts into layouts of their words.

    It draws no random numbers: a prompt has one layout. Objects get no boxes.

    Args:
        prompt_encoder: its text encoder is read, and frozen; its composition is not used.
        layout_transformer: predicts the boxes.
        read_padding: whether it reads the padding of a prompt too, as the published one does.

    Raises:
        ValueError: where the widths or the numbers of words differ.
    """

    def __init__(
        self, prompt_encoder: PromptEncoder, layout_transformer: LayoutTransformer, read_padding: bool = False
    ) -> None:
        super().__init__()
        config = layout_transformer.config
        for name, own in (("text_width", prompt_encoder.width), ("max_words", prompt_encoder.max_words)):
            if config[name] != own:
                raise ValueError(f"layout_transformer.{name} is {config[name]}; the text encoder's is {own}")
        self.prompt_encoder = prompt_encoder.requires_grad_(False)
        self.layout_transformer = layout_transformer
        self.read_padding = read_padding

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts with more words than a layout holds.

        Raises:
            ValueError: naming the prompt.
        """
        most = self.prompt_encoder.max_words
        for prompt in prompts:
            words = drawn_words(prompt)
            if len(words) > most:
                raise ValueError(f"prompt {prompt!r} asks for {len(words)} words; the layout holds at most {most}")

    def loss(self, batch: Batch, generators: SampleGenerators | None = None) -> Tensor:
        """Compute the mean absolute error of the known boxes, each given the true boxes before it, () float32.

        Args:
            batch: B samples; a word without a known box counts as a box of zeros for the words after it.
            generators: random generators of the B rows, which change the words' widths a little, as in TextDiffuser;
                None changes none.
        """
        truth, known = corners(batch.word_boxes) * batch.word_mask[..., None], batch.word_mask
        tokens = self.tokens(batch.prompts, batch.parsed, generators)
        predicted = self.layout_transformer(self.layout_transformer.encode(tokens), truth, tokens.mask).float()
        error = (predicted - truth).abs().mean(dim=-1) * known  # (B, N)
        return error.sum() / known.sum().clamp(min=1)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str]) -> tuple[Layout, ...]:
        """Predict a layout for each of B prompts; a prompt without words to draw gets an empty one.

        Boxes that overlap are moved apart (:func:`~vlad_lightning.layout.overlaps.resolve_overlaps`), and counted in
        ``Layout.moved``. Words beyond the ``max_words`` of a layout are left out.

        Raises:
            ValueError: where the predicted boxes are NaN because the weights are.
        """
        tokens = self.tokens(prompts)
        boxes = self.layout_transformer.decode(self.layout_transformer.encode(tokens), tokens.mask).float().cpu()
        if not boxes.isfinite().all():
            raise ValueError("the generated layouts hold NaN or infinite values: the weights are damaged")
        return tuple(map(self._laid_out, prompts, boxes))

    def _laid_out(self, prompt: str, boxes: Tensor) -> Layout:
        """Build the layout of one prompt from the boxes (N, 4) of its words."""
        parts = self.prompt_encoder.text_encoder.decompose(prompt)
        words = tuple(word.text for word in parts.words[: self.prompt_encoder.max_words])
        first, last = boxes[: len(words), :2], boxes[: len(words), 2:]
        centres, sizes = (first + last) / 2, (last - first).clamp(min=_LEAST)
        centred = torch.cat([centres, sizes, torch.zeros(len(words), 1)], dim=1)
        apart = resolve_overlaps(centred, parts.groups[: len(words)])
        return Layout(words, apart.boxes, moved=apart.moved)

    def tokens(
        self,
        prompts: Sequence[str],
        parsed: ParsedPrompts | None = None,
        generators: SampleGenerators | None = None,
    ) -> PromptTokens:
        """Encode and describe the tokens of B prompts.

        Args:
            prompts: B prompts.
            parsed: the same, parsed by the prompt encoder's parser; None parses them here.
            generators: random generators of the B rows, which change the words' widths; None changes none.
        """
        encoder = self.prompt_encoder
        parser, device = encoder.parser, encoder.text_encoder.device
        parsed = parser(prompts).to(device) if parsed is None else parsed
        with torch.no_grad():
            states = encoder.text_encoder(parsed).tokens
        drawn = [parser.decompose(prompt).words[: encoder.max_words] for prompt in prompts]
        tokenizer = cast(PreTrainedTokenizerFast, parser.tokenizer)
        fill: Fill = "context" if parser.pad_to_context else "longest"
        windows = cut_into_windows(tokenizer, prompts, drawn, parser.context, fill)
        words = token_words(prompts, windows, drawn)
        shift = torch.zeros_like(words.widths)
        if generators is not None:  # always as many numbers, so that a sample's do not depend on its batch
            drawn_shift = (2 * _JITTER * generators.uniform(MOST_INDEX + 1)).long() - _JITTER
            shift[:, : MOST_INDEX + 1] = drawn_shift[:, : shift.shape[1]].to(shift)
        words = replace(words, widths=(words.widths + shift).clamp(min=0) * (words.widths > 0))
        kept = windows.present.repeat_interleave(windows.ids.shape[-1], dim=1) if self.read_padding else None
        return PromptTokens(states, words.to(device), parsed.token_mask if kept is None else kept.to(device))


def corners(boxes: Tensor) -> Tensor:
    """Return the upright rectangles around boxes (..., 5), cut off at the frame: (..., 4), x0, y0, x1, y1."""
    cos, sin = boxes[..., 4].cos().abs(), boxes[..., 4].sin().abs()
    across = (boxes[..., 2] * cos + boxes[..., 3] * sin) / 2
    down = (boxes[..., 2] * sin + boxes[..., 3] * cos) / 2
    x, y = boxes[..., 0], boxes[..., 1]
    return torch.stack([x - across, y - down, x + across, y + down], dim=-1).clamp(0, 1)
