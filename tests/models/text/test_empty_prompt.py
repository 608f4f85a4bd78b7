"""A frozen tower encodes the empty prompt once, with the same result as for the string."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Conditioning

TOKENIZER = train_tokenizer(["a red circle"] * 30, 300)


def encoder(seed: int = 0, frozen: bool = True) -> PromptEncoder:
    torch.manual_seed(seed)
    tower = build_text_tower(16, layers=1, heads=2, vocabulary=300, context=40)
    text = TextEncoder(tower.requires_grad_(not frozen), CharacterEncoder(16), max_words=3, max_objects=2)
    text.tokenizer = TOKENIZER
    return PromptEncoder(text, CCM(16, max_phrases=5, layers=1, heads=2, starts_open=True))


class Readings:
    """Counts the calls of an encoder's tower."""

    def __init__(self, of: PromptEncoder) -> None:
        self.count = 0
        of.text_encoder.tower.register_forward_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


def assert_as_a_string(module: PromptEncoder) -> Conditioning:
    empty = module.empty()
    for field in dataclasses.fields(empty):
        mine, other = getattr(empty, field.name), getattr(module([""]), field.name)
        assert torch.equal(mine, other) if isinstance(mine, Tensor) else mine is other, field.name
    return empty


def test_a_frozen_tower_runs_once_and_trained_parts_each_time() -> None:
    module = encoder()
    readings = Readings(module)
    first = module.empty()
    with torch.no_grad():
        for weight in module.composition.parameters():
            weight.add_(0.1)
    second = module.empty()
    assert readings.count == 1
    assert not torch.equal(first.pooled, second.pooled)
    second.pooled.sum().backward()
    assert_as_a_string(module)


def test_a_trained_tower_runs_each_time() -> None:
    module = encoder(frozen=False)
    readings = Readings(module)
    module.empty().pooled.sum().backward()
    with torch.no_grad():
        for weight in module.text_encoder.tower.parameters():
            weight.add_(0.01)
    module.empty()
    assert readings.count == 2
    assert_as_a_string(module)


def test_the_tower_runs_again_after_weights_are_loaded_or_moved() -> None:
    module = encoder()
    before = assert_as_a_string(module)
    module.text_encoder.tower.load_state_dict(encoder(seed=1).text_encoder.tower.state_dict())
    loaded = assert_as_a_string(module)
    assert not torch.equal(loaded.tokens, before.tokens)
    module.load_state_dict(encoder(seed=2).state_dict())
    assert not torch.equal(assert_as_a_string(module).tokens, loaded.tokens)
    assert assert_as_a_string(module.double()).tokens.dtype == torch.float64


def test_another_tokenizer_parses_it_again() -> None:
    module = encoder()
    before = assert_as_a_string(module)
    module.text_encoder.tokenizer = train_tokenizer(["zzz"] * 30, 300)
    module.text_encoder.tokenizer.pad_token = "<unk>"
    assert not torch.equal(assert_as_a_string(module).tokens, before.tokens)


def test_precisions_and_inference_mode_have_separate_states() -> None:
    module = encoder()
    with torch.inference_mode():
        module.empty()
    module.empty().tokens.sum().backward()  # states made in inference mode would refuse
    with torch.autocast("cpu", torch.bfloat16):
        lower = assert_as_a_string(module)
    assert not torch.equal(lower.tokens.float(), assert_as_a_string(module).tokens)
