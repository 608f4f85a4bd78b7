"""The language side of the encoder: a CLIP text tower, and a spelling for each word to draw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from vlad_lightning.models.ccm import TextStates
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.prompts import Decomposition, PromptDecomposer

_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
# 2 is left out for the end: transformers reads `eos_token_id == 2` as a broken old config and pools elsewhere
_SPECIAL_ORDER = ("<pad>", "<start>", "<unk>", "<end>")


def build_text_tower(
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    vocabulary: int = 1024,
    context: int = 77,
    end_token: int = 3,
    activation: str = "quick_gelu",
    projection: int | None = None,
    intermediate: int | None = None,
) -> CLIPTextModelWithProjection:
    """A CLIP text tower of transformers with random weights.

    Args:
        width: D.
        layers: transformer layers.
        heads: attention heads.
        vocabulary: rows of the token embedding; at least the tokenizer's size.
        context: L, tokens a prompt.
        end_token: the id at whose first place t_g is read.
        activation: of the MLPs, ``quick_gelu`` (OpenAI) or ``gelu`` (OpenCLIP).
        projection: width of t_g; None means ``width``, which the composition needs.
        intermediate: width of the MLPs; None means 4 ``width``.
    """
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=intermediate or 4 * width,
            projection_dim=projection or width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            hidden_act=activation,
            eos_token_id=end_token,
            bos_token_id=None,
            pad_token_id=None,
        )
    )


def train_tokenizer(captions: Iterable[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """A lower-case byte-level BPE tokenizer learned from captions; it has a token for every byte, so none is unknown.

    Args:
        captions: the text to learn from.
        vocabulary: the largest size, at least 260 (256 bytes and four special tokens).

    Raises:
        ValueError: if ``vocabulary`` is below 260.
    """
    if vocabulary < 260:
        raise ValueError(f"vocabulary is {vocabulary}; 256 bytes and 4 special tokens need at least 260")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=20,
        special_tokens=list(_SPECIAL_ORDER),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end = ((t, tokenizer.token_to_id(t)) for t in ("<start>", "<end>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=[start, end])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)


def tokenizer_to_text(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer as JSON, for a checkpoint."""
    special = {name: getattr(tokenizer, name) for name in _SPECIAL}
    return json.dumps({"special": special, "tokenizer": tokenizer.backend_tokenizer.to_str()})


def tokenizer_from_text(text: str) -> PreTrainedTokenizerFast:
    """Undo :func:`tokenizer_to_text`."""
    saved = json.loads(text)
    special = {name: token for name, token in saved["special"].items() if token is not None}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(saved["tokenizer"]), **special)


class Spelling(ModelMixin, ConfigMixin):
    """A character-level embedding of a word, so that its spelling survives the sub-word tokenizer.

    Args:
        width: D of what is returned.
        max_letters: bytes of UTF-8 that are read; the rest of a word is not.
    """

    @register_to_config
    def __init__(self, width: int, max_letters: int = 24) -> None:
        super().__init__()
        self.bytes = nn.Embedding(257, width, padding_idx=256)
        self.places = nn.Parameter(torch.randn(max_letters, width) * 0.02)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, words: Sequence[str]) -> Tensor:
        """Spell ``K`` words: (K, D) float."""
        size = self.config.max_letters
        spelt = [list(w.encode()[:size]) for w in words]
        ids = torch.tensor([s + [256] * (size - len(s)) for s in spelt], device=self.places.device).view(-1, size)
        present = (ids != 256)[..., None]
        letters = self.mix(self.bytes(ids) + self.places) * present  # (K, max_letters, D)
        return letters.sum(dim=1) / size**0.5  # a sum: a long word looks longer


class TextEncoder(nn.Module):
    """Prompts to t_g, {t_i} and token states: the right-hand side of Eq. 2.

    Args:
        tower: the CLIP text tower; its projection keeps the width.
        spelling: the character-level embedding, of the same width.
        max_words: N, words to draw a prompt may have.
        max_objects: further phrases that are kept; more are left out.
        lora: adapters for the tower, which is frozen otherwise; None leaves it whole.

    Raises:
        ValueError: where the widths differ.
    """

    def __init__(
        self,
        tower: CLIPTextModelWithProjection,
        spelling: Spelling,
        max_words: int = 4,
        max_objects: int = 12,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        widths = {tower.config.hidden_size, tower.config.projection_dim, spelling.config.width}
        if len(widths) > 1:
            raise ValueError(f"tower, its projection and spelling must have one width; got {sorted(widths)}")
        self.tower = tower
        self.spelling = spelling
        self.max_words, self.max_objects = max_words, max_objects
        self.lora = lora
        self.decompose = PromptDecomposer()
        self.tokenizer: PreTrainedTokenizerFast | None = None
        if lora is not None:
            lora.inject(self.tower)

    @property
    def width(self) -> int:
        """D."""
        return int(self.tower.config.hidden_size)

    @property
    def lora_scale(self) -> float:
        """Alpha / rank of the adapters, 1 without any."""
        return self.lora.scale if self.lora else 1.0

    def forward(self, prompts: Sequence[str]) -> TextStates:
        """Encode B prompts; words beyond ``max_words`` and objects beyond ``max_objects`` are left out.

        Raises:
            RuntimeError: where there is no tokenizer yet.
        """
        if self.tokenizer is None:
            raise RuntimeError("the text encoder has no tokenizer: train one, load one, or load a checkpoint")
        length = self.tower.config.max_position_embeddings
        coded = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        device = self.spelling.places.device
        # no attention mask, as Stable Diffusion does it: the states of the padding have read the whole prompt
        said = self.tower(input_ids=coded["input_ids"].to(device))
        tokens = said.last_hidden_state  # (B, L, D)
        parts = [self.decompose(p) for p in prompts]
        spans = torch.tensor([self._spans(p) for p in parts]).view(len(parts), -1, 2)  # (B, M, 2)
        mask = (spans[..., 1] > 0).to(device)
        return TextStates(
            pooled=said.text_embeds,
            phrases=self._means(tokens, coded["offset_mapping"], spans) + self._spelt(tokens, parts, spans.shape[1]),
            phrase_mask=mask,
            order=_ranks(spans).to(device),
            tokens=tokens,
            token_mask=coded["attention_mask"].bool().to(device),
        )

    def _means(self, tokens: Tensor, offsets: Tensor, spans: Tensor) -> Tensor:
        """(B, M, D): the mean of the token states in each span, zero where none is there."""
        inside = (offsets[:, None, :, 0] < spans[..., None, 1]) & (offsets[:, None, :, 1] > spans[..., None, 0])
        share = inside.to(tokens) / inside.sum(-1, keepdim=True).clamp(min=1).to(tokens)  # (B, M, L)
        return share @ tokens

    def _spelt(self, tokens: Tensor, parts: Sequence[Decomposition], places: int) -> Tensor:
        """(B, M, D): the spelling of each word to draw, zero elsewhere."""
        spelt = tokens.new_zeros(len(parts), places, self.width)
        rows = [(b, k, w.text) for b, p in enumerate(parts) for k, w in enumerate(p.words[: self.max_words])]
        if rows:
            at, place, words = zip(*rows, strict=True)
            spelt[list(at), list(place)] = self.spelling(words).to(tokens)
        return spelt

    def _spans(self, parts: Decomposition) -> list[tuple[int, int]]:
        """M spans, (0, 0) where there is none; words first."""
        words = [(p.start, p.end) for p in parts.words[: self.max_words]]
        objects = [(p.start, p.end) for p in parts.objects[: self.max_objects]]
        return [
            *words,
            *[(0, 0)] * (self.max_words - len(words)),
            *objects,
            *[(0, 0)] * (self.max_objects - len(objects)),
        ]

    def get_extra_state(self) -> str:
        """The tokenizer, so that a checkpoint needs no other file."""
        return "" if self.tokenizer is None else tokenizer_to_text(self.tokenizer)

    def set_extra_state(self, state: str) -> None:
        """Restore the tokenizer."""
        self.tokenizer = tokenizer_from_text(state) if state else None


def _ranks(spans: Tensor) -> Tensor:
    """(B, M): the rank of each span by its start; absent ones, which end at 0, come last."""
    starts = torch.where(spans[..., 1] > 0, spans[..., 0], torch.iinfo(spans.dtype).max)
    return starts.argsort(dim=1, stable=True).argsort(dim=1)
