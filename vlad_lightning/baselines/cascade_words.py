"""A text encoder that is blind to letters: words are whole, and those that are not common are all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from vlad_lightning.models.text.encoder import tokenizer_from_text, tokenizer_to_text

_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"  # with the ids 0, 1 and 2, as in T5


def train_word_tokenizer(
    captions: Iterable[str], vocabulary: int = 1024, min_frequency: int = 20
) -> PreTrainedTokenizerFast:
    """Train a tokenizer whose tokens are whole words and marks, with an end token after each text.

    A word outside the vocabulary is ``<unk>``, whatever its letters; words keep their case, as in T5.

    Args:
        captions: the texts to learn from.
        vocabulary: the most tokens.
        min_frequency: rarer words are left out.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()]
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary,
        min_frequency=min_frequency,
        special_tokens=[_PAD, _END, _UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, tokenizer.token_to_id(_END))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=_PAD, eos_token=_END, unk_token=_UNKNOWN)


def build_t5(width: int = 128, layers: int = 3, heads: int = 4, vocabulary: int = 1024) -> T5EncoderModel:
    """Build the encoder of a T5 (version 1.1: gated GELU) with random weights and without dropout.

    Args:
        width: D.
        layers: transformer layers.
        heads: attention heads.
        vocabulary: rows of the token embedding.
    """
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=width,
            d_kv=width // heads,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


class WordEncoder(nn.Module):
    """Captions to the states of their words, with the tokenizer in the checkpoint.

    Args:
        tower: the encoder of a T5.
        context: the most tokens that are read; further ones are left out.
        min_frequency: how often a word must be in the captions that the tokenizer is trained on.

    Raises:
        ValueError: if ``context`` or ``min_frequency`` is below 1.
    """

    def __init__(self, tower: T5EncoderModel, context: int = 77, min_frequency: int = 20) -> None:
        super().__init__()
        for name, value in (("context", context), ("min_frequency", min_frequency)):
            if value < 1:
                raise ValueError(f"text_encoder.{name} is {value}; it must be at least 1")
        self.tower = tower
        self.context = context
        self.min_frequency = min_frequency
        self.tokenizer: PreTrainedTokenizerFast | None = None

    @property
    def width(self) -> int:
        """D."""
        return int(self.tower.config.d_model)

    def learn_words(self, captions: Iterable[str]) -> None:
        """Train the tokenizer, with as many words as the tower has rows."""
        self.tokenizer = train_word_tokenizer(captions, self.tower.config.vocab_size, self.min_frequency)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode B prompts.

        Returns:
            (B, L, D) float, and (B, L) bool, False at the padding.

        Raises:
            RuntimeError: if there is no tokenizer yet.
        """
        if self.tokenizer is None:
            raise RuntimeError("the text encoder has no tokenizer: train one, or load a checkpoint")
        ids = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.context, return_tensors="pt"
        ).to(self.tower.device)
        states = self.tower(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state
        return states, ids["attention_mask"].bool()

    def get_extra_state(self) -> str:
        """Return the tokenizer, so that a checkpoint needs no other file."""
        return "" if self.tokenizer is None else tokenizer_to_text(self.tokenizer)

    def set_extra_state(self, state: str) -> None:
        """Restore the tokenizer."""
        self.tokenizer = tokenizer_from_text(state) if state else None
