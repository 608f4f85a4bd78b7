from __future__ import annotations

import pytest
import tiny_system as tiny
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from vlad_lightning.baselines.artist_unet import FeatureBridge, check_plain, feature_channels, run_unet


def build_unet(seed: int, widths: tuple[int, ...] = (16, 32), inputs: int = tiny.LATENT) -> UNet2DConditionModel:
    """Build a UNet in which all blocks have features of distinct sizes or channels."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=inputs,
        out_channels=tiny.LATENT,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=tiny.WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def inputs(rows: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(rows, 7, dtype=torch.bool)
    mask[0, 4:] = False
    return torch.randn(rows, tiny.LATENT, 16, 16), torch.tensor([0, 500, 999]), torch.randn(rows, 7, tiny.WIDTH), mask


def test_block_by_block_is_the_networks_own_forward_bit_for_bit() -> None:
    unet = build_unet(0)
    x, t, tokens, mask = inputs()
    with torch.no_grad():
        for given in (mask, None):
            whole = unet(x, t, encoder_hidden_states=tokens, encoder_attention_mask=given).sample
            assert torch.equal(run_unet(unet, x, t, tokens, given).output, whole)
        assert not torch.equal(whole, unet(x, t, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample)


def test_features_are_those_that_hooks_see() -> None:
    unet = build_unet(0)
    seen: list[Tensor] = []
    for block in (unet.mid_block, *unet.up_blocks):
        block.register_forward_hook(lambda _, __, output: seen.append(output))
    x, t, tokens, mask = inputs()
    with torch.no_grad():
        features = run_unet(unet, x, t, tokens, mask).features
    assert [tuple(f.shape) for f in features] == [(3, 32, 8, 8), (3, 32, 16, 16), (3, 16, 16, 16)]
    assert [f.shape[1] for f in features] == list(feature_channels(unet))
    assert all(torch.equal(feature, hooked) for feature, hooked in zip(features, seen, strict=True))


def test_what_is_added_reaches_the_output_at_each_place() -> None:
    """Compare with hooks that add the same after each block."""
    x, t, tokens, mask = inputs()
    shapes = [f.shape for f in run_unet(build_unet(0), x, t, tokens).features]
    torch.manual_seed(2)
    added = [torch.randn(shape) for shape in shapes]
    for kept in range(len(added)):
        part = [a if i == kept else torch.zeros_like(a) for i, a in enumerate(added)]
        unet = build_unet(0)
        plain = run_unet(unet, x, t, tokens, mask).output
        ours = run_unet(unet, x, t, tokens, mask, part).output
        block = (unet.mid_block, *unet.up_blocks)[kept]
        block.register_forward_hook(lambda _, __, output, addend=added[kept]: output + addend)
        hooked = unet(x, t, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample
        assert torch.equal(ours, hooked)
        assert not torch.equal(ours, plain)


def test_a_bridge_starts_as_nothing_and_has_gradients() -> None:
    listening, source = build_unet(0), build_unet(3, (8, 16))
    bridge = FeatureBridge(feature_channels(source), feature_channels(listening), kernel=3)
    x, t, tokens, mask = inputs()
    features = run_unet(source, x, t, tokens).features
    output = run_unet(listening, x, t, tokens, mask, bridge(features)).output
    assert torch.equal(output, listening(x, t, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample)
    output.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in bridge.parameters())


def test_rows_that_do_not_hear_get_exactly_nothing() -> None:
    bridge = FeatureBridge((4,), (6,))
    torch.nn.init.ones_(bridge.convolutions[0].weight)
    torch.nn.init.ones_(bridge.convolutions[0].bias)
    (projected,) = bridge([torch.ones(2, 4, 3, 3)], torch.tensor([True, False]))
    assert torch.equal(projected, torch.tensor([5.0, 0.0]).view(2, 1, 1, 1).expand(2, 6, 3, 3))


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    """Gradient checkpointing acts in the blocks, which are called as they are."""
    x, t, tokens, mask = inputs()
    gradients = []
    for checkpointed in (False, True):
        unet = build_unet(0).train()
        if checkpointed:
            unet.enable_gradient_checkpointing()
        run_unet(unet, x, t, tokens, mask).output.square().mean().backward()
        gradients.append({name: weight.grad for name, weight in unet.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the text module's UNet gives 2 features; the visual module's takes 3"):
        FeatureBridge((4, 4), (4, 4, 4))
    with pytest.raises(ValueError, match=r"bridge_kernel is 2; it must be odd"):
        FeatureBridge((4,), (4,), kernel=2)
    unet = build_unet(0)
    unet.register_to_config(class_embed_type="timestep")
    with pytest.raises(ValueError, match=r"unet\.class_embed_type is 'timestep'; it must be None"):
        check_plain(unet, "unet")
    x, t, tokens, _ = inputs()
    with pytest.raises(ValueError, match=r"the latent has the sides \(15, 16\); they must be multiples of 2"):
        run_unet(build_unet(0), x[:, :, 1:], t, tokens)
