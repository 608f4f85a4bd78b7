from __future__ import annotations

import torch

from vlad_lightning.models.text.ccm import CCM, IdentityComposition
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder

WIDTH = 16
PROMPTS = ['a red circle with the text "HELLO WORLD"', "a blue square", 'the text "ONE"']
TOKENIZER = train_tokenizer(PROMPTS * 20, 300)


def text_encoder() -> TextEncoder:
    torch.manual_seed(0)
    tower = build_text_tower(WIDTH, layers=1, heads=2, vocabulary=300, context=40)
    encoder = TextEncoder(tower, CharacterEncoder(WIDTH), max_words=3, max_objects=2).eval()
    encoder.tokenizer = TOKENIZER
    return encoder


def test_with_an_untrained_ccm_the_tokens_equal_the_towers() -> None:
    encoder = text_encoder()
    told = PromptEncoder(encoder, CCM(WIDTH, max_phrases=5, layers=1, heads=2))(PROMPTS)
    states = encoder(PROMPTS)
    assert torch.equal(told.pooled, states.pooled)
    assert torch.equal(told.tokens, states.tokens)
    assert torch.equal(told.token_mask, states.token_mask)


def test_words_are_the_composed_phrases_after_t_g_and_zero_if_absent() -> None:
    module = PromptEncoder(text_encoder(), CCM(WIDTH, max_phrases=5, layers=1, heads=2))
    told = module(PROMPTS)
    assert told.word_mask.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    assert told.phrase_mask[:, 0].all()
    assert torch.equal(told.phrase_mask[:, 1:4], told.word_mask)
    assert torch.equal(told.words[told.word_mask], told.phrases[:, 1:4][told.word_mask])
    assert not told.words[~told.word_mask].any()
    assert len(told) == 3
    assert (module.width, module.max_words) == (WIDTH, 3)


def test_without_the_ccm_phrases_equal_the_encoders() -> None:
    encoder = text_encoder()
    told, states = PromptEncoder(encoder, IdentityComposition())(PROMPTS), encoder(PROMPTS)
    assert torch.equal(told.phrases, torch.cat([states.pooled[:, None], states.phrases], dim=1))
    assert torch.equal(told.tokens, states.tokens)
