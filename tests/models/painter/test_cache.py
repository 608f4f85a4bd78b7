from __future__ import annotations

from collections import Counter

import pytest
import tiny_system as tiny
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from vlad_lightning.models.painter.cache import reuse_deep_features

TOKENS = torch.randn(2, 5, tiny.WIDTH, generator=torch.Generator().manual_seed(1))


def unet(levels: int = 3) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16, 16)[:levels],
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D")[:levels],
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")[-levels:],
        layers_per_block=2,
        cross_attention_dim=tiny.WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def inputs(calls: int, side: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(2, 4, side, side, generator=generator), torch.tensor(900 - 100 * i)) for i in range(calls)]


def answers(network: UNet2DConditionModel, interval: int, calls: int, side: int = 16) -> list[Tensor]:
    with torch.no_grad(), reuse_deep_features(network, interval):
        return [network(x, t, encoder_hidden_states=TOKENS).sample for x, t in inputs(calls, side)]


def plain(network: UNet2DConditionModel, calls: int) -> list[Tensor]:
    with torch.no_grad():
        return [network(x, t, encoder_hidden_states=TOKENS).sample for x, t in inputs(calls)]


def test_interval_1_reuses_nothing() -> None:
    network = unet()
    assert all(map(torch.equal, answers(network, 1, 3), plain(network, 3)))


def test_every_nth_call_is_exact_and_the_others_are_not() -> None:
    network = unet()
    same = [torch.equal(a, b) for a, b in zip(answers(network, 3, 7), plain(network, 7), strict=True)]
    assert same == [True, False, False, True, False, False, True]


def test_a_cached_call_runs_the_outer_blocks_around_the_kept_features() -> None:
    """Compare with the UNet written out: the last up block reads the output of the block below at the first call."""
    network = unet()
    kept: list[Tensor] = []
    handle = network.up_blocks[-2].register_forward_hook(lambda module, args, output: kept.append(output))
    (first, time), (second, later) = inputs(2)
    with torch.no_grad():
        network(first, time, encoder_hidden_states=TOKENS)
        handle.remove()
        embedded = network.time_embedding(network.time_proj(later.expand(2)))
        x = network.conv_in(second)
        _, skips = network.down_blocks[0](x, embedded, encoder_hidden_states=TOKENS)
        x = network.up_blocks[-1](kept[0], (x, *skips[:-1]), embedded, encoder_hidden_states=TOKENS)
        expected = network.conv_out(network.conv_act(network.conv_norm_out(x)))
    torch.testing.assert_close(answers(network, 2, 2)[1], expected)


def test_deep_layers_run_once_per_interval() -> None:
    network, seen = unet(), Counter[str]()
    for name in ("conv_in", "down_blocks.0.resnets.0", "down_blocks.1.resnets.0", "mid_block.resnets.0"):
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.update([name]))
    answers(network, 4, 10)
    assert list(seen.values()) == [10, 10, 3, 3]


def test_forgotten_features_are_computed_anew_also_for_another_batch() -> None:
    network, asked = unet(), inputs(4)
    with torch.no_grad(), reuse_deep_features(network, 3) as forget:
        found = [network(x, t, encoder_hidden_states=TOKENS).sample for x, t in asked[:2]]
        forget()
        found += [network(x[:1], t, encoder_hidden_states=TOKENS[:1]).sample for x, t in asked[2:]]
    with torch.no_grad():
        alone = [network(x[:1], t, encoder_hidden_states=TOKENS[:1]).sample for x, t in asked[2:]]
    exact = [*plain(network, 2), *alone]
    assert [torch.equal(a, b) for a, b in zip(found, exact, strict=True)] == [True, False, True, False]


def test_the_network_is_restored_even_after_an_error() -> None:
    network = unet()
    before, attributes = plain(network, 2), [set(vars(module)) for module in network.modules()]
    with pytest.raises(RuntimeError, match="stop"), reuse_deep_features(network, 2):
        raise RuntimeError("stop")
    assert [set(vars(module)) for module in network.modules()] == attributes
    answers(network, 2, 3)
    assert all(map(torch.equal, plain(network, 2), before))


def test_a_sampling_does_not_reuse_an_earlier_ones_features() -> None:
    network = unet()
    first = answers(network, 3, 2)
    assert all(map(torch.equal, answers(network, 3, 2), first))
    assert answers(network, 3, 2, side=20)[1].shape == (2, 4, 20, 20)  # also a side that is not a power of 2
