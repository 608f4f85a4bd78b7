"""Tests that need one process; the others are in tests/distributed."""

from __future__ import annotations

import pytest
import tiny_system as tiny
import torch
from torch import nn

from vlad_lightning.models.fsdp import blocks, is_sharded, local, placed_as, reshard, shard, whole_parameters


def names(module: nn.Module) -> list[str]:
    of = {part: name for name, part in module.named_modules()}
    return [of[block] for block in blocks(module)]


def test_blocks_are_levels_of_a_unet_and_layers_of_transformers() -> None:
    assert names(tiny.unet()) == ["down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1", "mid_block"]
    assert names(tiny.transformer()) == ["transformer_blocks.0", "transformer_blocks.1"]
    assert names(tiny.prompt_encoder()) == [
        "text_encoder.tower.text_model.encoder.layers.0",
        "composition.transformer.layers.0",
    ]
    assert names(tiny.layout_generator().tlg) == ["transformer.layers.0"]


@pytest.mark.parametrize("stage", list(tiny.STAGES))
def test_blocks_do_not_overlap(stage: str) -> None:
    parameters = [p for block in blocks(tiny.STAGES[stage]()) for p in block.parameters()]
    assert len(parameters) == len(set(parameters))


def test_only_trained_scalars_are_unsharded() -> None:
    module = tiny.stage("alignment")
    whole = whole_parameters(module)
    assert {k for k, p in module.named_parameters() if any(p is w for w in whole)} == {"log_temperature"}


def test_frozen_network_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing in Linear can be sharded"):
        shard(nn.Linear(2, 2).requires_grad_(False), None)  # type: ignore[arg-type]


def test_plain_modules_and_tensors_are_unchanged() -> None:
    module, value = nn.Linear(2, 2), torch.zeros(3)
    reshard(module)
    assert not is_sharded(module)
    assert local(value) is value
    assert placed_as(value, torch.ones(3)) is value


def test_batch_without_phrases_uses_the_weights_of_a_batch_with_them() -> None:
    """A weight that one process uses and another does not is an error under most strategies."""
    encoder = tiny.prompt_encoder()
    with torch.no_grad():
        plain = encoder(["at"]).phrases
    told = encoder(["at"])
    assert not told.phrase_mask[:, 1:].any()
    assert torch.equal(told.phrases, plain)
    told.phrases.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.text_encoder.character_encoder.parameters())
