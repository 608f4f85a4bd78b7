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
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from vlad_lightning.layout.prompt_parser import PromptDecomposer
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.text.ccm import TextStates
from vlad_lightning.models.text.empty_prompt import EmptyPrompt
from vlad_lightning.models.text.parser import NO_LETTER, PromptParser, letters_of
from vlad_lightning.models.text.towers import DualTower, TextTower, TowerStates, reader_of
from vlad_lightning.models.text.width_adapter import WidthAdapter
from vlad_lightning.types import ParsedPrompts

_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
# The end token must not be 2: transformers reads `eos_token_id == 2` as a broken old config and pools elsewhere
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
    """Build a CLIP text tower of transformers with random weights.

    Args:
        width: D.
        layers: transformer layers.
        heads: attention heads.
        vocabulary: rows of the token embedding; at least the tokenizer's size.
        context: L, tokens per prompt.
        end_token: the id at whose first position t_g is read.
        activation: activation of the MLPs, ``quick_gelu`` (OpenAI) or ``gelu`` (OpenCLIP).
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
    """Train a lower-case byte-level BPE tokenizer on captions; it has a token for every byte, so none is unknown.

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
    """Return the tokenizer as JSON, for a checkpoint."""
    special = {name: getattr(tokenizer, name) for name in _SPECIAL}
    return json.dumps({"special": special, "tokenizer": tokenizer.backend_tokenizer.to_str()})


def tokenizer_from_text(text: str) -> PreTrainedTokenizerFast:
    """Undo :func:`tokenizer_to_text`."""
    saved = json.loads(text)
    special = {name: token for name, token in saved["special"].items() if token is not None}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(saved["tokenizer"]), **special)


class CharacterEncoder(ModelMixin, ConfigMixin):
    """A character-level embedding of a word, so that its spelling survives the sub-word tokenizer.

    Args:
        width: D of the output.
        max_letters: the most bytes of UTF-8 that are read of a word; further ones are ignored.
    """

    @register_to_config
    def __init__(self, width: int, max_letters: int = 24) -> None:
        super().__init__()
        self.bytes = nn.Embedding(NO_LETTER + 1, width, padding_idx=NO_LETTER)
        self.position_embedding = nn.Parameter(torch.randn(max_letters, width) * 0.02)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, words: Sequence[str] | Tensor) -> Tensor:
        """Embed the spelling of ``K`` words, or of :func:`~vlad_lightning.models.text.parser.letters_of` them.

        Returns:
            (K, D) float.
        """
        ids = (
            words
            if isinstance(words, Tensor)
            else letters_of(words, self.config.max_letters).to(self.position_embedding.device)
        )
        present = (ids != NO_LETTER)[..., None]
        letters = self.mix(self.bytes(ids) + self.position_embedding) * present  # (K, max_letters, D)
        return letters.sum(dim=1)  # no mean: a long word looks longer


class TextEncoder(nn.Module):
    """An encoder of prompts to t_g, {t_i} and token states: the right-hand side of Eq. 2.

    A prompt that is longer than the tower's context is read in windows, whose token states are joined; t_g is
    the mean of the windows' embeddings.

    Args:
        tower: the text tower: CLIP, SDXL's two CLIPs, SigLIP, or the language model of Qwen-VL.
        character_encoder: the character-level embedding, of the width D; None means one with its defaults.
        max_words: N, the most words to draw of a prompt.
        max_objects: the most further phrases that are kept; more are left out.
        lora: adapters for the tower, which is frozen apart from them; None adds none.
        width: D, the width that the image generator attends to; if the tower's states or embedding have another width,
            a learned projection follows. None means the tower's own width, which its embedding must have too.
        skip_layers: how many top layers the token states skip before the final norm; Stable Diffusion 2 skips one. t_g
            uses all. :class:`~vlad_lightning.models.text.towers.DualTower` has a fixed choice.
        context: the most tokens of a window; None means all that the tower takes.
        mask_padding: hide the padding from the image generator. Stable Diffusion's UNets were trained to attend to it.

    Raises:
        TypeError: if ``tower`` is of no known family.
        ValueError: if the widths differ, or ``skip_layers`` or ``context`` do not fit the tower.
    """

    def __init__(
        self,
        tower: TextTower,
        character_encoder: CharacterEncoder | None = None,
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
        character_encoder = character_encoder or CharacterEncoder(width or token_width)
        _check_widths(token_width, pooled_width, character_encoder.config.width, width)
        layers = 1 if isinstance(tower, DualTower) else int(tower.config.num_hidden_layers)
        if not 0 <= skip_layers < layers:
            raise ValueError(f"skip_layers is {skip_layers}; this {type(tower).__name__} allows 0 to {layers - 1}")
        most = self.reader.context(tower)
        if context is not None and not 2 < context <= most:
            raise ValueError(f"context is {context}; it must be in [3, {most}]")
        self.tower = tower
        self.character_encoder = character_encoder
        self.width = width or token_width
        self.adapter: WidthAdapter | None = None
        if (token_width, pooled_width) != (self.width, self.width):
            self.adapter = WidthAdapter(token_width, pooled_width, self.width)
        self.max_words, self.max_objects = max_words, max_objects
        self.skip_layers, self.context = skip_layers, context or most
        self.mask_padding = mask_padding
        self.lora = lora
        self.parser = PromptParser(
            max_words,
            max_objects,
            character_encoder.config.max_letters,
            self.context,
            pad_to_context=not self.reader.masked,
            hides_padding=self.reader.masked or mask_padding,
            causal=self.reader.causal,
        )
        self.empty = EmptyPrompt(self.parser)
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

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.character_encoder.position_embedding.device

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The parser's tokenizer; None before one is trained or loaded."""
        return self.parser.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: PreTrainedTokenizerFast | None) -> None:
        self.parser.tokenizer = tokenizer

    @property
    def decompose(self) -> PromptDecomposer:
        """The parser's decomposer, which splits a prompt into its phrases."""
        return self.parser.decompose

    def forward(self, prompts: Sequence[str] | ParsedPrompts) -> TextStates:
        """Encode B prompts, or the output of :attr:`parser` for them.

        Raises:
            RuntimeError: if there is no tokenizer yet to parse strings.
        """
        if isinstance(prompts, ParsedPrompts):
            return self._encode(prompts)
        return self._encode(self.parser(prompts).to(self.device, non_blocking=True))

    def _encode(self, parsed: ParsedPrompts) -> TextStates:
        said = self._read(parsed)
        tokens, pooled = said.tokens, said.pooled
        if self.adapter is not None:
            tokens, pooled = self.adapter(tokens, pooled)
        return TextStates(
            pooled=pooled,
            phrases=_means(tokens, parsed.inside) + self._spelt(tokens, parsed),
            phrase_mask=parsed.phrase_mask,
            order=parsed.order,
            tokens=tokens,
            token_mask=parsed.token_mask,
            read_mask=parsed.read_mask,
            text_embeds=said.text_embeds,
            word_groups=parsed.word_groups,
            most_phrases=parsed.most_phrases,
        )

    def _read(self, parsed: ParsedPrompts) -> TowerStates:
        """Return the tower's states of every window, side by side (B, K L, W), and the means of its embeddings."""
        if self.empty.is_mine(parsed):
            return self.empty.read(
                self.tower, lambda: self.reader.read(self.tower, parsed.ids, parsed.mask, self.skip_layers)
            )
        said = self.reader.read(self.tower, parsed.ids, parsed.mask, self.skip_layers)
        size, most = parsed.windows.shape
        if most == 1:
            return said
        share = parsed.windows / parsed.windows.sum(dim=1, keepdim=True)  # (B, K)

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(size * most, *x.shape[1:]).index_put((parsed.rows,), x)

        def mean(x: Tensor) -> Tensor:
            return torch.einsum("bk,bkd->bd", share.to(x), spread(x).view(size, most, -1))

        tokens = spread(said.tokens).view(size, -1, said.tokens.shape[-1])
        embeds = None if said.text_embeds is None else mean(said.text_embeds)
        return TowerStates(tokens, mean(said.pooled), embeds)

    def _spelt(self, tokens: Tensor, parsed: ParsedPrompts) -> Tensor:
        """Embed the spelling of each word to draw, and of the words of each other phrase one by one: (B, M, D).

        A phrase's own words are a small part of its token states, which describe the whole prompt: the difference of
        "a red star" and "a red ring" would be under 1 % of its variance. The normalised spelling has as large a part as
        the token states.
        """
        size, phrase_slots = parsed.phrase_mask.shape
        letters = self.character_encoder(parsed.letters).to(tokens)
        summed = tokens.new_zeros(size * phrase_slots, self.width).index_add(0, parsed.spelt_at, letters[parsed.spelt])
        spelt = summed.view(size, phrase_slots, self.width)
        drawn = torch.arange(phrase_slots, device=tokens.device)[:, None] < self.max_words
        return torch.where(drawn, spelt, F.layer_norm(spelt, (self.width,)))

    def get_extra_state(self) -> str:
        """Return the tokenizer, so that a checkpoint needs no other file."""
        return "" if self.tokenizer is None else tokenizer_to_text(self.tokenizer)

    def set_extra_state(self, state: str) -> None:
        """Restore the tokenizer."""
        self.tokenizer = tokenizer_from_text(state) if state else None


def _check_widths(token_width: int, pooled_width: int, character_width: int, width: int | None) -> None:
    """Refuse widths that differ, unless a projection is asked for."""
    if width is None:
        widths = {token_width, pooled_width, character_width}
        if len(widths) > 1:
            raise ValueError(
                f"tower, its projection and spelling must have one width; got {sorted(widths)}: a `width` of the text "
                "encoder adds learned projections"
            )
    elif character_width != width:
        raise ValueError(f"spelling has the width {character_width}; the text encoder's is {width}")


def _means(tokens: Tensor, inside: Tensor) -> Tensor:
    """Average the token states (B, L, D) that ``inside`` (B, M, L) gives each phrase: (B, M, D), zero for none."""
    share = inside.to(tokens) / inside.sum(-1, keepdim=True).clamp(min=1).to(tokens)
    return share @ tokens
