"""The language side of the encoder: a text tower, and a spelling for each word to draw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from vlad_lightning.layout.prompt_parser import Decomposition, PromptDecomposer
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.text.ccm import TextStates
from vlad_lightning.models.text.towers import DualTower, TextTower, TowerStates, reader_of
from vlad_lightning.models.text.width_adapter import WidthAdapter
from vlad_lightning.models.text.windows import Windows, cut_into_windows

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


def build_unprojected_text_tower(
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    vocabulary: int = 49408,
    context: int = 77,
    end_token: int = 49407,
    activation: str = "quick_gelu",
    intermediate: int | None = None,
) -> CLIPTextModel:
    """A CLIP text tower without its projection, as the ``text_encoder`` of Stable Diffusion 1 and 2 is published.

    t_g is then the state at the end token. The defaults are Stable Diffusion 1.5's.

    Args:
        width: D.
        layers: transformer layers; 23 in Stable Diffusion 2.
        heads: attention heads.
        vocabulary: rows of the token embedding; at least the tokenizer's size.
        context: L, tokens a prompt.
        end_token: the id at whose first place t_g is read.
        activation: of the MLPs, ``quick_gelu`` (OpenAI) or ``gelu`` (OpenCLIP).
        intermediate: width of the MLPs; None means 4 ``width``.
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=intermediate or 4 * width,
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
        return letters.sum(dim=1)  # no mean: a long word looks longer


class TextEncoder(nn.Module):
    """Prompts to t_g, {t_i} and token states: the right-hand side of Eq. 2.

    A prompt that is longer than the tower's context is read in windows, whose token states follow each other; t_g is
    the mean of the windows' embeddings.

    Args:
        tower: the text tower: CLIP, SDXL's two CLIPs, SigLIP, or the language model of Qwen-VL.
        spelling: the character-level embedding, of the width D.
        max_words: N, words to draw a prompt may have.
        max_objects: further phrases that are kept; more are left out.
        lora: adapters for the tower, which is frozen otherwise; None leaves it whole.
        width: D, what the painter attends to; where the tower's states or embedding have another width, a learned
            projection follows. None means the tower's own width, which its embedding must have too.
        skip_layers: layers at the top that the token states leave out before the final norm; Stable Diffusion 2 leaves
            out one. t_g reads all. :class:`~vlad_lightning.models.text.towers.DualTower` knows its own.
        context: the most tokens of a window; None means all that the tower takes.
        mask_padding: hide the padding from the painter. Stable Diffusion's UNets were trained to attend to it.

    Raises:
        TypeError: where ``tower`` is of no known family.
        ValueError: where the widths differ, or ``skip_layers`` or ``context`` do not fit the tower.
    """

    def __init__(
        self,
        tower: TextTower,
        spelling: Spelling,
        max_words: int = 4,
        max_objects: int = 12,
        lora: Lora | None = None,
        width: int | None = None,
        skip_layers: int = 0,
        context: int | None = None,
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.reader = reader_of(tower)
        token_width, pooled_width = self.reader.widths(tower)
        _check_widths(token_width, pooled_width, spelling.config.width, width)
        layers = 1 if isinstance(tower, DualTower) else int(tower.config.num_hidden_layers)
        if not 0 <= skip_layers < layers:
            raise ValueError(f"skip_layers is {skip_layers}; this {type(tower).__name__} allows 0 to {layers - 1}")
        most = self.reader.context(tower)
        if context is not None and not 2 < context <= most:
            raise ValueError(f"context is {context}; it must be in [3, {most}]")
        self.tower = tower
        self.spelling = spelling
        self.width = width or token_width
        self.adapter: WidthAdapter | None = None
        if (token_width, pooled_width) != (self.width, self.width):
            self.adapter = WidthAdapter(token_width, pooled_width, self.width)
        self.max_words, self.max_objects = max_words, max_objects
        self.skip_layers, self.context = skip_layers, context or most
        self.mask_padding = mask_padding
        self.lora = lora
        self.decompose = PromptDecomposer()
        self.tokenizer: PreTrainedTokenizerFast | None = None
        if lora is not None:
            lora.inject(self.tower, self.reader.lora_targets)
        if isinstance(self.tower, DualTower):
            self.tower.freeze_unread()

    @property
    def added_width(self) -> int | None:
        """E of ``text_embeds``, which SDXL's UNet adds to its time embedding; None for other towers."""
        return self.reader.widths(self.tower)[1] if isinstance(self.tower, DualTower) else None

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
        parts = [self.decompose(p) for p in prompts]
        words = [p.words[: self.max_words] for p in parts]
        windows = cut_into_windows(self.tokenizer, prompts, words, self.context, fill=not self.reader.masked)
        said = self._read(windows)
        tokens, pooled = said.tokens, said.pooled
        if self.adapter is not None:
            tokens, pooled = self.adapter(tokens, pooled)
        spans = torch.tensor([self._spans(p) for p in parts]).view(len(parts), -1, 2)  # (B, M, 2)
        means = self._means(tokens, windows.offsets.flatten(1, 2), spans)
        return TextStates(
            pooled=pooled,
            phrases=means + self._spelt(tokens, parts, spans.shape[1]),
            phrase_mask=(spans[..., 1] > 0).to(tokens.device),
            order=_ranks(spans).to(tokens.device),
            tokens=tokens,
            token_mask=windows.mask.flatten(1).to(tokens.device),
            read_mask=self._readable(windows, tokens.device),
            text_embeds=said.text_embeds,
            word_groups=torch.tensor([self._groups(p) for p in parts], device=tokens.device).view(len(parts), -1, 2),
        )

    def _read(self, windows: Windows) -> TowerStates:
        """The tower's states of every window, side by side: (B, K L, W), and the means of its embeddings."""
        device = self.spelling.places.device
        present = windows.present.flatten()
        ids, mask = (x.flatten(0, 1)[present].to(device) for x in (windows.ids, windows.mask))
        said = self.reader.read(self.tower, ids, mask, self.skip_layers)
        size, most = windows.present.shape
        if most == 1:
            return said
        present = present.to(device)
        share = windows.present.to(device) / windows.present.to(device).sum(dim=1, keepdim=True)  # (B, K)

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(len(present), *x.shape[1:]).index_put((present.nonzero()[:, 0],), x)

        def mean(x: Tensor) -> Tensor:
            return torch.einsum("bk,bkd->bd", share.to(x), spread(x).view(size, most, -1))

        tokens = spread(said.tokens).view(size, -1, said.tokens.shape[-1])
        embeds = None if said.text_embeds is None else mean(said.text_embeds)
        return TowerStates(tokens, mean(said.pooled), embeds)

    def _readable(self, windows: Windows, device: torch.device) -> Tensor | None:
        """(B, K L) bool: the states a painter may attend to; None means all."""
        if self.reader.masked or self.mask_padding:
            return windows.mask.flatten(1).to(device)
        if windows.present.shape[1] == 1:
            return None
        return windows.present.repeat_interleave(windows.ids.shape[-1], dim=1).to(device)

    def _means(self, tokens: Tensor, offsets: Tensor, spans: Tensor) -> Tensor:
        """(B, M, D): the mean of the token states in each span, zero where none is there."""
        inside = (offsets[:, None, :, 0] < spans[..., None, 1]) & (offsets[:, None, :, 1] > spans[..., None, 0])
        share = inside.to(tokens) / inside.sum(-1, keepdim=True).clamp(min=1).to(tokens)  # (B, M, L)
        return share @ tokens

    def _spelt(self, tokens: Tensor, parts: Sequence[Decomposition], places: int) -> Tensor:
        """(B, M, D): the spelling of each word to draw, and the words of each other phrase, spelt one by one.

        A phrase's own words are a small part of its token states, which tell of the whole prompt: what tells "a red
        star" from "a red ring" would be under 1 % of its variance. Normalised, it has as large a part as they have.
        """
        words = [(b, k, w.text) for b, p in enumerate(parts) for k, w in enumerate(p.words[: self.max_words])]
        others = [
            (b, self.max_words + k, word)
            for b, p in enumerate(parts)
            for k, phrase in enumerate(p.objects[: self.max_objects])
            for word in phrase.text.casefold().split()
        ]
        if not words and not others:
            spelt = tokens.new_zeros(len(parts), places, self.width)
            # a weight that one process uses and another does not is an error under most strategies; this adds zero
            return spelt + self.spelling([""]).sum().to(tokens) if torch.is_grad_enabled() else spelt
        rows, slots, texts = zip(*words, *others, strict=True)
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        letters = self.spelling(list(distinct)).to(tokens)
        at = torch.tensor([row * places + slot for row, slot in zip(rows, slots, strict=True)], device=tokens.device)
        which = torch.tensor([distinct[text] for text in texts], device=tokens.device)
        summed = tokens.new_zeros(len(parts) * places, self.width).index_add(0, at, letters[which])
        spelt = summed.view(len(parts), places, self.width)
        drawn = torch.arange(places, device=tokens.device)[:, None] < self.max_words
        return torch.where(drawn, spelt, F.layer_norm(spelt, (self.width,)))

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

    def _groups(self, parts: Decomposition) -> list[tuple[int, int]]:
        """The quoted span of each of N words and its rank in it, (0, 0) where there is no word."""
        groups = parts.groups[: self.max_words]
        ranked = [(group, i - groups.index(group)) for i, group in enumerate(groups)]
        return [*ranked, *[(0, 0)] * (self.max_words - len(ranked))]

    def get_extra_state(self) -> str:
        """The tokenizer, so that a checkpoint needs no other file."""
        return "" if self.tokenizer is None else tokenizer_to_text(self.tokenizer)

    def set_extra_state(self, state: str) -> None:
        """Restore the tokenizer."""
        self.tokenizer = tokenizer_from_text(state) if state else None


def _check_widths(token_width: int, pooled_width: int, spelling_width: int, width: int | None) -> None:
    """Refuse widths that differ, unless a projection is asked for."""
    if width is None:
        widths = {token_width, pooled_width, spelling_width}
        if len(widths) > 1:
            raise ValueError(
                f"tower, its projection and spelling must have one width; got {sorted(widths)}: a `width` of the text "
                "encoder adds learned projections"
            )
    elif spelling_width != width:
        raise ValueError(f"spelling has the width {spelling_width}; the text encoder's is {width}")


def _ranks(spans: Tensor) -> Tensor:
    """(B, M): the rank of each span by its start; absent ones, which end at 0, come last."""
    starts = torch.where(spans[..., 1] > 0, spans[..., 0], torch.iinfo(spans.dtype).max)
    return starts.argsort(dim=1, stable=True).argsort(dim=1)
