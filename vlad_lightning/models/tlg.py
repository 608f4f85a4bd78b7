"""The Text Layout Generator: a diffusion over layout tokens, one a word to draw (Eq. 6's mean, before drawing)."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vlad_lightning.types import Conditioning


def encode_boxes(boxes: Tensor) -> Tensor:
    """(..., 5) boxes in fractions and radians -> (..., 5) tokens in [-1, 1]."""
    return torch.cat([2 * boxes[..., :4] - 1, boxes[..., 4:] / math.pi], dim=-1)


def decode_boxes(tokens: Tensor) -> Tensor:
    """(..., 5) tokens -> (..., 5) boxes, sizes kept above zero; undoes :func:`encode_boxes`."""
    centre, size = tokens[..., :2], tokens[..., 2:4]
    return torch.cat([(centre + 1) / 2, ((size + 1) / 2).clamp(min=0.01), tokens[..., 4:] * math.pi], dim=-1)


class TLG(ModelMixin, ConfigMixin):
    """A transformer that denoises layout tokens, each knowing its word's phrase, with cross-attention to t.

    Args:
        text_width: D of the conditioning.
        width: of the transformer.
        layers: transformer layers.
        heads: attention heads.
        max_words: N, places for words.
    """

    @register_to_config
    def __init__(self, text_width: int, width: int = 128, layers: int = 4, heads: int = 4, max_words: int = 4) -> None:
        super().__init__()
        self.box_in = nn.Linear(5, width)
        self.word_in = nn.Linear(text_width, width)
        self.text_in = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.places = nn.Parameter(torch.randn(max_words, width) * 0.02)
        self.frequencies = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(width, width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))
        self.box_out = nn.Linear(width, 5)

    def forward(self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict epsilon, v, x0 or a velocity of the layout tokens, as the schedule has it.

        Args:
            x_t: (B, N, 5) float.
            timesteps: (B,) int64, or float32 for flow matching.
            conditioning: of the B prompts.

        Returns:
            (B, N, 5) float; what stands where a prompt has no word means nothing.
        """
        time = self.time(self.frequencies(timesteps).to(self.places.dtype))[:, None]  # (B, 1, width)
        tokens = self.box_in(x_t) + self.word_in(conditioning.words) + self.places + time
        # a prompt without words would mask every key, which makes attention NaN
        absent = ~conditioning.word_mask & conditioning.word_mask.any(dim=1, keepdim=True)
        read = self.transformer(
            tokens,
            self.text_in(conditioning.phrases),
            tgt_key_padding_mask=absent,
            memory_key_padding_mask=~conditioning.phrase_mask,
        )
        return self.box_out(read)
