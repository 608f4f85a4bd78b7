"""Eq. 2, t = f_CCM(t_g, {t_i}): the Contextual Composition Module, and the identity that replaces it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


@dataclass(frozen=True)
class TextStates:
    """The output of the text encoder for ``B`` prompts, before composition.

    Attributes:
        pooled: (B, D) float, t_g.
        phrases: (B, M, D) float, t_1..t_M: first ``N`` slots for words to draw, then the objects.
        phrase_mask: (B, M) bool.
        order: (B, M) int64 in [0, M): each phrase's rank in the prompt: which word is `at the top` depends on order.
        tokens: (B, L, D) float, the token states.
        token_mask: (B, L) bool.
        read_mask: (B, L) bool, the states an image generator may attend to; None means all.
        text_embeds: (B, E) float, the embedding that SDXL's UNet adds to its time embedding; None for other encoders.
        word_groups: (B, N, 2) int64, see :class:`~vlad_lightning.types.Conditioning`.
        most_phrases: at least the most phrases that a prompt has; None is M.
    """

    pooled: Tensor
    phrases: Tensor
    phrase_mask: Tensor
    order: Tensor
    tokens: Tensor
    token_mask: Tensor
    read_mask: Tensor | None = None
    text_embeds: Tensor | None = None
    word_groups: Tensor | None = None
    most_phrases: int | None = None


@dataclass(frozen=True)
class Composed:
    """The composition t.

    Attributes:
        pooled: (B, D) float.
        phrases: (B, 1 + M, D) float, composed [t_g; t_1..t_M]; what stands for absent phrases has no meaning.
        tokens: (B, L, D) float.
    """

    pooled: Tensor
    phrases: Tensor
    tokens: Tensor


class Composition(Protocol):
    """A way to compose t_g and {t_i}."""

    def __call__(self, states: TextStates) -> Composed:
        """Compose."""


class CCM(ModelMixin, ConfigMixin):
    """A pre-norm transformer over [t_g; t_1..t_M] with cross-attention to the token states.

    Each phrase first gets the features of its two neighbours in the prompt: in `"SALE" at the top` the place follows
    the word, so that the word's own states from a causal text tower cannot contain it. The transformer's output is
    added to the normalised phrase, so that "a red star" remains distinct from its neighbours.

    Both outputs to a pretrained reader (the pooled vector, the token states) are residuals with a projection that
    starts at zero, as in ControlNet (arXiv 2302.05543): an untrained CCM changes nothing, yet the projections learn
    from the first step, and the layers before them from the second. A scalar gate at zero would starve both.

    Args:
        width: D of the text encoder.
        max_phrases: M, the slots of :class:`TextStates.phrases`.
        layers: transformer layers.
        heads: attention heads.
        starts_open: initialise the projections at random; for a reader that is not pretrained.
    """

    @register_to_config
    def __init__(
        self, width: int, max_phrases: int, layers: int = 2, heads: int = 4, starts_open: bool = False
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Parameter(torch.randn(1 + max_phrases, width) * 0.02)
        # sinusoids of unit variance, then learned: "the phrase after this word" is one rotation for all ranks
        ranks = get_timestep_embedding(torch.arange(max_phrases), width, max_period=100)
        self.order = nn.Embedding.from_pretrained(2**0.5 * ranks, freeze=False)
        self.neighbours = nn.Conv1d(width, width, kernel_size=3, padding=1)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))
        self.phrase_norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_pooled = nn.Linear(width, width)
        self.read = nn.MultiheadAttention(width, heads, batch_first=True)
        if not starts_open:
            for projection in (self.to_pooled, self.read.out_proj):
                nn.init.zeros_(projection.weight)
                nn.init.zeros_(projection.bias)

    def forward(self, states: TextStates) -> Composed:
        """Compose; see :class:`TextStates` and :class:`Composed` for the shapes.

        Phrases are composed in the order of the prompt, in which the absent ones come last and are left out: most
        prompts have a few of the M.
        """
        phrases = self.phrase_norm(torch.cat([states.pooled[:, None], states.phrases], dim=1))  # (B, 1 + M, D)
        slots = states.order.argsort(dim=1)[:, : states.most_phrases]  # (B, P), by rank
        present = states.phrase_mask.gather(1, slots)
        ranked = _rows(phrases[:, 1:], slots)
        context = self.order.weight[: slots.shape[1]] + self._heard(ranked, present)
        context = context + F.embedding(slots, self.position_embedding[1:])
        absent = ~torch.cat([torch.ones_like(present[:, :1]), present], dim=1)
        tokens = self.token_norm(states.tokens)
        composed = self.transformer(  # t_g has no rank and no neighbours
            torch.cat([phrases[:, :1] + self.position_embedding[:1], ranked + context], dim=1),
            tokens,
            tgt_key_padding_mask=absent,
            memory_key_padding_mask=~states.token_mask,
        )
        pooled = states.pooled + self.to_pooled(composed[:, 0])
        heard = self.read(tokens, composed, composed, absent, need_weights=False)[0]
        places = F.pad(slots + 1, (1, 0))[..., None].expand_as(composed)
        return Composed(pooled, phrases.scatter_add(1, places, composed.to(phrases)), states.tokens + heard)

    def freeze_unread(self, pooled: bool, tokens: bool) -> None:
        """Freeze the outputs that a stage does not read, because they get no gradient there.

        Args:
            pooled: whether the stage reads the pooled t.
            tokens: whether the stage reads the token states.
        """
        if not pooled:
            self.to_pooled.requires_grad_(False)
        if not tokens:
            self.read.requires_grad_(False)

    def _heard(self, ranked: Tensor, present: Tensor) -> Tensor:
        """Convolve each phrase with the phrases before and after it in the prompt: (B, P, D), by rank."""
        return self.neighbours((ranked * present[..., None]).mT).mT


def _rows(x: Tensor, slots: Tensor) -> Tensor:
    """Gather the slots (B, P) of x, (B, M, D): (B, P, D)."""
    return x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1]))


class IdentityComposition(ModelMixin, ConfigMixin):
    """The composition without the CCM: t_g, {t_i} and the token states as the encoder gives them."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("version", torch.zeros(()))  # a tensor, so that the module has a device

    def freeze_unread(self, pooled: bool, tokens: bool) -> None:
        """Do nothing: there are no weights."""

    def forward(self, states: TextStates) -> Composed:
        """Return the states as they are."""
        phrases = torch.cat([states.pooled[:, None], states.phrases], dim=1)
        return Composed(states.pooled, phrases, states.tokens)
