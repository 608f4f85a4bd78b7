"""Prompts parsed before the encoder give the same, bit for bit, as strings that the encoder parses."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.language_towers import build_qwen2_5_vl_language_model
from vlad_lightning.models.text.parser import PromptParser, letters_of
from vlad_lightning.models.text.prompt_encoder import PromptEncoder

PROMPTS = ['a red circle with the text "HELLO wide"', "", "a square", 'a café at the top, "ONE" and "ONE"']
LONG = "a red circle, " * 40 + 'with the text "HELLO"'
TOKENIZER = train_tokenizer(PROMPTS * 20, 300)


def encoder(masked: bool = False, **changes: Any) -> PromptEncoder:
    """Build CLIP's encoder, or one that masks its padding like Qwen's."""
    torch.manual_seed(0)
    if masked:
        tower: Any = build_qwen2_5_vl_language_model(32, 2, 2, 1, 48, 300, 4096, (4, 2, 2))
    else:
        tower = build_text_tower(32, layers=1, heads=2, vocabulary=300, context=40)
    text = TextEncoder(tower, CharacterEncoder(32), max_words=3, max_objects=4, **changes)
    text.tokenizer = TOKENIZER
    return PromptEncoder(text, CCM(32, max_phrases=7, layers=1, heads=2, starts_open=True))


def assert_equal(first: Any, second: Any) -> None:
    for field in dataclasses.fields(first):
        mine, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(mine, other) if isinstance(mine, Tensor) else mine is other, field.name


@pytest.mark.parametrize("prompts", [PROMPTS, [*PROMPTS, LONG], [""], ["?"]])
@pytest.mark.parametrize("changes", [{}, {"mask_padding": True}, {"masked": True}], ids=["clip", "hidden", "masked"])
def test_parsed_prompts_give_the_same_as_strings(prompts: list[str], changes: dict[str, Any]) -> None:
    module = encoder(**changes)
    parsed = module.parser(prompts)
    assert len(parsed) == len(prompts)
    assert_equal(module(parsed), module(prompts))
    module(parsed).pooled.sum().backward()  # no part of it was made without gradients
    assert module.text_encoder.character_encoder.bytes.weight.grad is not None


def test_a_parser_can_be_sent_to_another_process() -> None:
    parser = encoder().parser
    sent: PromptParser = pickle.loads(pickle.dumps(parser))
    assert_equal(sent(PROMPTS), parser(PROMPTS))


def test_the_parser_gets_a_tokenizer_that_is_set_later() -> None:
    module = encoder()
    parser, state = module.parser, module.state_dict()
    module.text_encoder.tokenizer = None
    with pytest.raises(RuntimeError, match="no tokenizer: train one, load one, or load a checkpoint"):
        parser(PROMPTS)
    module.load_state_dict(state)
    assert_equal(parser(PROMPTS), encoder().parser(PROMPTS))


def test_letters_are_bytes_and_long_words_are_cut() -> None:
    assert letters_of(["né", "", "abcde"], 4).tolist() == [[110, 195, 169, 256], [256] * 4, [97, 98, 99, 100]]
