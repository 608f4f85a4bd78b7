"""The Text Layout Generator: diffusion over layout tokens, one per phrase of the prompt (Eq. 6's mean, before drawing).

A token has six numbers: a box (centre, size, angle), and an analog bit (Chen et al., arXiv 2208.04202) for whether the
phrase has a box at all: words to draw always have one, "a red star" has one, "at the top" has none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vlad_lightning.types import Conditioning

TOKEN_WIDTH = 6


def encode_boxes(boxes: Tensor, present: Tensor) -> Tensor:
    """Encode boxes (..., 5) in fractions and radians, and whether there is one (...) bool, as (..., 6) in [-1, 1].

    A token without a box has zeros for its five numbers.
    """
    there = present[..., None]
    tokens = torch.cat([2 * boxes[..., :4] - 1, boxes[..., 4:] / math.pi], dim=-1)
    return torch.cat([tokens * there, 2 * there.to(boxes) - 1], dim=-1)


def decode_boxes(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Decode (..., 6) tokens to (..., 5) boxes with sizes above zero, and (...) bool; undo :func:`encode_boxes`."""
    centre, size = tokens[..., :2], tokens[..., 2:4]
    boxes = torch.cat([(centre + 1) / 2, ((size + 1) / 2).clamp(min=0.01), tokens[..., 4:5] * math.pi], dim=-1)
    return boxes, tokens[..., 5] > 0


class TLG(ModelMixin, ConfigMixin):
    """A transformer that denoises layout tokens, each conditioned on its phrase, with cross-attention to t.

    Embeddings mark which words form one quoted phrase, and their order in it. The buffer ``taught_objects`` records
    whether training data had boxes of objects; without them, only words are laid out.

    Args:
        text_width: D of the conditioning.
        max_words: N, slots for words.
        width: width of the transformer.
        layers: transformer layers.
        heads: attention heads.
        max_objects: K, slots for the prompt's other phrases; 0 lays out words only.
    """

    taught_objects: Tensor

    @register_to_config
    def __init__(
        self,
        text_width: int,
        max_words: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        max_objects: int = 0,
    ) -> None:
        super().__init__()
        self.box_in = nn.Linear(TOKEN_WIDTH, width)
        self.word_in = nn.Linear(text_width, width)
        self.text_in = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.position_embedding = nn.Parameter(torch.randn(max_words + max_objects, width) * 0.02)
        self.groups = nn.Parameter(torch.randn(2, max_words, width) * 0.02)  # of a word's phrase, of its rank in it
        self.frequencies = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(width, width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))
        self.box_out = nn.Linear(width, TOKEN_WIDTH)
        self.register_buffer("taught_objects", torch.zeros((), dtype=torch.bool))

    @property
    def slots(self) -> int:
        """M, the number of phrases that are laid out: N words, then K others."""
        return int(self.config.max_words + self.config.max_objects)

    def forward(
        self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning, unknown: Tensor | None = None
    ) -> Tensor:
        """Predict epsilon, v, x0 or a velocity of the layout tokens, according to the schedule.

        Args:
            x_t: (B, M, 6) float: the words, then the other phrases.
            timesteps: (B,) int64, or float32 for flow matching.
            conditioning: the conditioning of the B prompts.
            unknown: (B, M) bool: phrases for which the data do not say whether they have a box; they are left out.

        Returns:
            (B, M, 6) float; the values of slots without a phrase have no meaning.
        """
        time = self.time(self.frequencies(timesteps).to(self.position_embedding.dtype))[:, None]  # (B, 1, width)
        phrases = conditioning.phrases[:, 1 : 1 + self.slots]
        there = conditioning.phrase_mask[:, 1 : 1 + self.slots]
        tokens = self.box_in(x_t) + self.word_in(phrases * there[..., None]) + self.position_embedding + time
        tokens = tokens + F.pad(self._grouped(conditioning), (0, 0, 0, self.config.max_objects))
        absent = ~there if unknown is None else ~there | unknown
        # a prompt without phrases would mask every key, which makes attention NaN
        absent = absent & ~absent.all(dim=1, keepdim=True)
        read = self.transformer(
            tokens,
            self.text_in(conditioning.phrases),
            tgt_key_padding_mask=absent,
            memory_key_padding_mask=~conditioning.phrase_mask,
        )
        return self.box_out(read)

    def _grouped(self, conditioning: Conditioning) -> Tensor:
        """Embed each word's quoted phrase and its rank in it: (B, N, width)."""
        groups = conditioning.word_groups
        if groups is None:  # each word is a separate phrase
            alone = torch.arange(self.config.max_words, device=self.groups.device)
            groups = torch.stack([alone, torch.zeros_like(alone)], dim=-1).expand(len(conditioning), -1, -1)
        return self.groups[0][groups[..., 0]] + self.groups[1][groups[..., 1]]
