"""TextDiffuser's layout transformer (arXiv 2305.10855, section 3.1): a prompt's words to upright boxes, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vlad_lightning.baselines.textdiffuser_tokens import KINDS, TokenWords

MOST_INDEX = 255
"""The largest width, length and position that has an embedding of its own; larger ones share it."""


@dataclass(frozen=True)
class PromptTokens:
    """The tokens of ``B`` prompts as the layout transformer reads them.

    Attributes:
        states: (B, L, D) float, of a text encoder.
        words: the words that they belong to.
        mask: (B, L) bool: tokens that are read; None reads all.
    """

    states: Tensor
    words: TokenWords
    mask: Tensor | None = None


class LayoutTransformer(ModelMixin, ConfigMixin):
    """An encoder over a prompt's tokens and a decoder of the boxes of its words, each given the boxes before it.

    A box is x0, y0, x1, y1 in fractions of the frame. The decoder reads each number of the boxes before by an embedding
    of its interval, as the published network does.

    Args:
        text_width: D of the tokens' states.
        max_words: N, the most boxes.
        width: width of the transformer.
        heads: attention heads.
        layers: layers of the encoder, and of the decoder.
        feedforward: width of their MLPs; None means 4 ``width``.
        bins: intervals of [0, 1] that the decoder tells apart.
        norm_first: normalise before each layer, which is easier to train from random weights; the published network
            normalises after it.
    """

    @register_to_config
    def __init__(
        self,
        text_width: int,
        max_words: int,
        width: int = 512,
        heads: int = 8,
        layers: int = 2,
        feedforward: int | None = None,
        bins: int = 512,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.text_in = nn.Sequential(nn.Linear(text_width, width), nn.ReLU(), nn.Linear(width, width))
        self.mark_embedding = nn.Embedding(2, width)
        self.width_embedding = nn.Embedding(MOST_INDEX + 1, width)
        self.length_embedding = nn.Embedding(MOST_INDEX + 1, width)
        self.kind_embedding = nn.Embedding(len(KINDS), width)
        self.position_embedding = nn.Embedding(MOST_INDEX + 1, width)  # of tokens and of boxes
        self.box_embeddings = nn.ModuleList(nn.Embedding(bins, width) for _ in range(4))
        # without dropout: its draws would come from no generator of a sample's own
        shape = (width, heads, feedforward or 4 * width)
        encoder = nn.TransformerEncoderLayer(*shape, dropout=0.0, batch_first=True, norm_first=norm_first)
        decoder = nn.TransformerDecoderLayer(*shape, dropout=0.0, batch_first=True, norm_first=norm_first)
        norms = [nn.LayerNorm(width) if norm_first else None for _ in range(2)]
        self.encoder = nn.TransformerEncoder(encoder, layers, norms[0], enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, layers, norms[1])
        self.box_out = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 4))

    def encode(self, tokens: PromptTokens) -> Tensor:
        """Encode B prompts, (B, L, width) float."""
        index = torch.arange(tokens.states.shape[1], device=tokens.states.device)
        embedded = (
            self.text_in(tokens.states)
            + self.mark_embedding(tokens.words.marked)
            + self.width_embedding(tokens.words.widths.clamp(0, MOST_INDEX))
            + self.length_embedding(tokens.words.lengths.clamp(0, MOST_INDEX))
            + self.kind_embedding(tokens.words.kinds)
            + self.position_embedding(index.clamp(max=MOST_INDEX))
        )
        return self.encoder(embedded, src_key_padding_mask=None if tokens.mask is None else ~tokens.mask)

    def forward(self, encoded: Tensor, boxes: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict the box of every word from the boxes before it.

        Args:
            encoded: (B, L, width) float, of :meth:`encode`.
            boxes: (B, N, 4) float; the last one is not read.
            mask: (B, L) bool: tokens that are read; None reads all.

        Returns:
            (B, N, 4) float.
        """
        before = torch.cat([torch.zeros_like(boxes[:, :1]), boxes[:, :-1]], dim=1)
        bins = (before * self.config.bins).long().clamp(0, self.config.bins - 1)
        index = torch.arange(boxes.shape[1], device=boxes.device)
        embedded = self.position_embedding(index) + sum(
            embedding(bins[..., i]) for i, embedding in enumerate(self.box_embeddings)
        )
        causal = torch.ones(len(index), len(index), dtype=torch.bool, device=boxes.device).triu(1)
        hidden = self.decoder(
            embedded, encoded, tgt_mask=causal, memory_key_padding_mask=None if mask is None else ~mask
        )
        return self.box_out(hidden)

    def decode(self, encoded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict the boxes of all N words one after the other, (B, N, 4) float in [0, 1]."""
        boxes = encoded.new_zeros(len(encoded), self.config.max_words, 4)
        for i in range(self.config.max_words):
            boxes[:, i] = self(encoded, boxes, mask)[:, i].clamp(0, 1)
        return boxes
