from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny_system as tiny
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor

from vlad_lightning.models.painter.attention import fused_qkv
from vlad_lightning.models.painter.backbone import TransformerBackbone
from vlad_lightning.types import Conditioning

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 16, 16, 16, generator=GENERATOR)
TOKENS, POOLED = torch.randn(2, 9, 32, generator=GENERATOR), torch.randn(2, 32, generator=GENERATOR)
TIMES = torch.tensor([3.0, 900.0])


def build(**changes: Any) -> SD3Transformer2DModel:
    """The tiny transformer; as Stable Diffusion 3.5 has them, with normalised queries and a layer of patches alone."""
    torch.manual_seed(0)
    return SD3Transformer2DModel.from_config({**tiny.transformer().config, **changes})


NETWORKS = {"sd3": {}, "sd3.5": {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request: pytest.FixtureRequest) -> SD3Transformer2DModel:
    return build(**request.param)


def told(tokens: Tensor, mask: Tensor | None = None, pooled: Tensor = POOLED) -> Conditioning:
    size, length = tokens.shape[:2]
    none = torch.zeros(size, 0, dtype=torch.bool)
    everywhere = torch.ones(size, length, dtype=torch.bool)
    return Conditioning(pooled, tokens[:, :0], none, tokens, everywhere, tokens[:, :0], none, read_mask=mask)


@torch.no_grad()
def test_without_a_mask_it_equals_diffusers_bit_for_bit(network: SD3Transformer2DModel) -> None:
    network.set_attn_processor(JointAttnProcessor2_0())
    expected = network(X, encoder_hidden_states=TOKENS, pooled_projections=POOLED, timestep=TIMES).sample
    assert torch.equal(TransformerBackbone(network)(X, TIMES, told(TOKENS)), expected)


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_a_padded_row_gives_the_same_as_the_row_alone(network: SD3Transformer2DModel, fused: bool) -> None:
    backbone = TransformerBackbone(network)
    lengths = (4, 9)
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    padded = torch.where(mask[..., None], TOKENS, torch.full_like(TOKENS, 7.0))
    with fused_qkv(network, fused):
        found = backbone(X, TIMES, told(padded, mask))
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = backbone(X[one], TIMES[one], told(TOKENS[one, :length], pooled=POOLED[one]))
        torch.testing.assert_close(found[one], alone, rtol=1e-4, atol=1e-5)
    unmasked = backbone(X, TIMES, told(padded))
    assert not torch.allclose(unmasked[0], found[0], atol=1e-3)  # the mask matters, in the row that it shortens
    assert torch.allclose(unmasked[1], found[1], atol=1e-5)


def test_the_mask_reaches_the_backward_pass_of_checkpointed_layers() -> None:
    network = build()
    backbone, gradients = TransformerBackbone(network), []
    mask = torch.arange(9) < torch.tensor([[4], [9]])
    for checkpointing in (False, True):
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.train().zero_grad()
        tokens = TOKENS.clone().requires_grad_()
        backbone(X, TIMES, told(tokens, mask)).square().sum().backward()
        assert tokens.grad is not None
        assert tokens.grad[0, :4].abs().sum() > 0
        assert not tokens.grad[0, 4:].any()
        gradients.append(tokens.grad)
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_prompts_of_several_windows_do_not_change_their_neighbours() -> None:
    """A batch is as long as its longest prompt; the missing windows of shorter prompts are masked."""
    torch.manual_seed(0)
    image_generator = tiny.flow_image_generator()
    short, long = 'a red circle and "HI"', "a red circle " * 40
    alone, both = image_generator.prompt_encoder([short]), image_generator.prompt_encoder([short, long])
    assert both.tokens.shape[1] > alone.tokens.shape[1]
    x, z = torch.randn(2, tiny.LATENT, 16, 16), torch.randn(2, tiny.LATENT, 16, 16)
    found = image_generator.vfe(x, TIMES, z, both)[:1]
    torch.testing.assert_close(found, image_generator.vfe(x[:1], TIMES[:1], z[:1], alone), rtol=1e-4, atol=1e-5)
    unread = image_generator.vfe(x, TIMES, z, replace(both, read_mask=None))[:1]
    assert not torch.allclose(unread, found, atol=1e-4)
