"""From prompts to Conditioning: the text encoder and the composition of Eq. 2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vlad_lightning.models.text.ccm import CCM, IdentityComposition
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.types import Conditioning, ParsedPrompts


class PromptEncoder(nn.Module):
    """t = f_CCM(t_g, {t_i}) (Eq. 2) for a batch of prompts.

    Args:
        text_encoder: gives t_g, {t_i} and the token states.
        composition: the CCM, or the identity for the system without it.
        read_phrases: let the image generator attend to the composed phrases besides the token states. This would change
            the attention of a pretrained image generator, which reads them only through the CCM's residual on the
            token states.

    Raises:
        ValueError: if the CCM has another width or another number of slots than the text encoder.
    """

    def __init__(
        self, text_encoder: TextEncoder, composition: CCM | IdentityComposition, read_phrases: bool = False
    ) -> None:
        super().__init__()
        if isinstance(composition, CCM):
            config, slots = composition.config, text_encoder.max_words + text_encoder.max_objects
            if (config.width, config.max_phrases) != (text_encoder.width, slots):
                raise ValueError(
                    f"the CCM has width={config.width}, max_phrases={config.max_phrases}; the text encoder needs "
                    f"width={text_encoder.width}, max_phrases={slots} (max_words + max_objects)"
                )
        self.text_encoder = text_encoder
        self.composition = composition
        self.read_phrases = read_phrases

    @property
    def width(self) -> int:
        """D."""
        return self.text_encoder.width

    @property
    def max_words(self) -> int:
        """N, the most words to draw of a prompt."""
        return self.text_encoder.max_words

    @property
    def parser(self) -> PromptParser:
        """The parser of strings into inputs of :meth:`forward`, for use in a data loader."""
        return self.text_encoder.parser

    def empty(self) -> Conditioning:
        """Encode the empty prompt; a tower that does not train is not run again."""
        return self(self.text_encoder.empty.parsed(self.text_encoder.device))

    def forward(self, prompts: Sequence[str] | ParsedPrompts) -> Conditioning:
        """Encode B prompts, or the output of :attr:`parser` for them, on the encoder's device."""
        states = self.text_encoder(prompts)
        composed = self.composition(states)
        mask = states.phrase_mask
        n = self.max_words
        conditioning = Conditioning(
            pooled=composed.pooled,
            phrases=composed.phrases,
            phrase_mask=torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1),
            tokens=composed.tokens,
            token_mask=states.token_mask,
            words=composed.phrases[:, 1 : 1 + n] * mask[:, :n, None],
            word_mask=mask[:, :n],
            read_mask=states.read_mask,
            text_embeds=states.text_embeds,
            word_groups=states.word_groups,
        )
        return conditioning.with_phrases_as_tokens() if self.read_phrases else conditioning
