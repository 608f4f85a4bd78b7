"""Added input columns of a published image generator: zero at first, trained while the others may be frozen, plain when
saved."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from vlad_lightning.models.lora import Lora, fold, load_plain
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import LORA_TARGETS, VFE
from vlad_lightning.models.painter.widened import WidenedConv2d, settings_once_widened, widen
from vlad_lightning.types import Conditioning

WIDTH, FUSED = 16, 12
STEPS = torch.tensor([3, 999])
LORA = Lora(rank=2, alpha=6, targets=LORA_TARGETS)


def unet(in_channels: int = 4) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def transformer(in_channels: int = 4) -> SD3Transformer2DModel:
    torch.manual_seed(0)
    made = SD3Transformer2DModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=4,
    ).eval()
    with torch.no_grad():  # it starts at zero, unlike a published one
        made.proj_out.weight.normal_()
    return made


def vfe(kind: str = "unet", out_channels: int = FUSED, **changes: Any) -> VFE:
    torch.manual_seed(1)
    network = unet() if kind == "unet" else transformer()
    return VFE(LatentFusion(4, 4, WIDTH, out_channels, time_width=16), **{kind: network}, **changes)


def inputs() -> tuple[Tensor, Tensor, Conditioning]:
    generators = torch.Generator().manual_seed(2)
    x_t, z_t = torch.randn(2, 2, 4, 8, 8, generator=generators)
    states, pooled = torch.randn(2, 5, WIDTH, generator=generators), torch.randn(2, WIDTH, generator=generators)
    mask = torch.ones(2, 5, dtype=torch.bool)
    return x_t, z_t, Conditioning(pooled, states, mask, states, mask, states, mask)


def first_layer(module: VFE) -> WidenedConv2d:
    layer = module.network.conv_in if module.transformer is None else module.network.pos_embed.proj
    assert isinstance(layer, WidenedConv2d)
    return layer


def trained(module: VFE, steps: int, weight_decay: float = 0.01) -> VFE:
    """Train some steps with the layout as target."""
    x_t, z_t, told = inputs()
    learning = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1e-2, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        (module(x_t, STEPS, z_t, told) - z_t).square().mean().backward()
        optimizer.step()
    return module


@torch.no_grad()
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_a_widened_image_generator_starts_at_its_published_output(kind: str, lora: Lora | None) -> None:
    x_t, z_t, told = inputs()
    module = vfe(kind, lora=lora).requires_grad_(False)
    assert module.network.config.in_channels == FUSED
    fused = module.fusion(x_t, STEPS, z_t, told.pooled)
    assert fused.shape[1] == FUSED
    assert (fused[:, 4:].std(dim=(0, 2, 3)) > 0.1).all()  # open: the image generator's columns are not
    if kind == "unet":
        expected = unet().requires_grad_(False)(x_t, STEPS, encoder_hidden_states=told.tokens).sample
    else:
        expected = transformer().requires_grad_(False)(x_t, told.tokens, told.pooled, STEPS).sample
    assert expected.abs().max() > 0.01
    assert torch.equal(module(x_t, STEPS, z_t, told), expected)


@pytest.mark.parametrize("acceleration", [Acceleration(), Acceleration(channels_last=True)])
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_under_lora_the_added_columns_learn_and_the_published_ones_are_frozen(
    kind: str, acceleration: Acceleration
) -> None:
    """The columns learn in the first step; the fusion's added rows, which need them, in the second."""
    module = vfe(kind, lora=LORA, acceleration=acceleration)
    layer, further = first_layer(module), module.fusion.weight[4:].detach().clone()
    published = layer.weight.clone(), layer.bias.clone()
    names = {name for name, p in module.network.named_parameters() if p.requires_grad and "lora_" not in name}
    assert [name.split(".")[-1] for name in names] == ["further"]
    trained(module, 1, weight_decay=0)
    assert (layer.further.flatten(2).abs().sum(dim=(0, 2)) > 0).all()  # each of them
    assert torch.equal(module.fusion.weight[4:], further)
    trained(module, 1, weight_decay=0)
    assert (module.fusion.weight[4:] != further)[:, 4:].all()
    trained(module, 3, weight_decay=0.5)
    assert torch.equal(layer.weight, published[0])
    assert torch.equal(layer.bias, published[1])


def test_without_lora_all_columns_learn() -> None:
    module = vfe()
    before = first_layer(module).weight.detach().clone()
    trained(module, 2)
    assert (first_layer(module).weight != before).any()
    assert first_layer(module).further.any()


def test_the_layout_has_an_effect_after_a_few_steps() -> None:
    x_t, z_t, told = inputs()
    module = trained(vfe(lora=LORA), 3)
    with torch.no_grad():
        change = module(x_t, STEPS, -z_t, told) - module(x_t, STEPS, z_t, told)
    assert change.abs().mean() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_it_is_exported_as_a_plain_wider_network(kind: str, lora: Lora | None, tmp_path: Any) -> None:
    with torch.enable_grad():
        module = trained(vfe(kind, lora=lora), 3)
    x_t, z_t, told = inputs()
    module.plain_network().save_pretrained(tmp_path)
    plain = type(module.network).from_pretrained(tmp_path)
    assert not any(isinstance(part, WidenedConv2d) for part in plain.modules())
    assert plain.config.in_channels == FUSED
    again = VFE(module.fusion, **{kind: plain.eval()})
    torch.testing.assert_close(again(x_t, STEPS, z_t, told), module(x_t, STEPS, z_t, told), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_its_state_and_its_copy_hold_everything(lora: Lora | None) -> None:
    with torch.enable_grad():
        module = trained(vfe(lora=lora), 2)
    x_t, z_t, told = inputs()
    expected = module(x_t, STEPS, z_t, told)
    assert torch.equal(deepcopy(module)(x_t, STEPS, z_t, told), expected)
    other = vfe(lora=lora)
    assert not torch.equal(other(x_t, STEPS, z_t, told), expected)
    other.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(other(x_t, STEPS, z_t, told), expected)


@pytest.mark.parametrize("before", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("after", [None, LORA], ids=["full", "lora"])
def test_a_next_stage_takes_all_columns(before: Lora | None, after: Lora | None) -> None:
    """InitFrom chains stages like this: folded, then loaded into a network that may be widened and have adapters."""
    first, second = trained(vfe(lora=before), 2), vfe(lora=after)
    folded = fold(first.network.state_dict(), LORA.scale)
    assert folded["conv_in.weight"].shape == (8, FUSED, 3, 3)
    load_plain(second.network, folded)
    assert torch.equal(first_layer(second).weight, first_layer(first).weight)
    assert torch.equal(first_layer(second).further, first_layer(first).further)
    assert first_layer(second).further.any()


def test_weights_without_the_columns_leave_them_as_they_are() -> None:
    module = trained(vfe(), 2)
    columns = first_layer(module).further.detach().clone()
    load_plain(module.network, unet().state_dict())
    assert torch.equal(first_layer(module).weight, unet().conv_in.weight)
    assert torch.equal(first_layer(module).further, columns)


@pytest.mark.parametrize("channels", [3, 9])
def test_weights_of_another_width_are_refused(channels: int) -> None:
    module = vfe()
    with pytest.raises(RuntimeError, match="size mismatch for conv_in"):
        load_plain(module.network, unet(channels).state_dict())
    with pytest.raises(ValueError, match=f"in_channels is {channels} there, 4 in this config"):
        settings_once_widened(module.network, unet(channels).config)


def test_narrower_weights_do_not_load_into_a_plain_wide_network() -> None:
    with pytest.raises(ValueError, match="in_channels is 4 there, 12 in this config"):
        settings_once_widened(unet(12), unet().config)
    assert settings_once_widened(unet(), unet().config)["in_channels"] == 4


def test_an_image_generator_of_the_fusions_width_is_not_widened() -> None:
    """Without published weights, its columns start random, and the fusion's added rows at zero."""
    module = VFE(LatentFusion(4, 4, WIDTH, FUSED), unet(FUSED))
    assert type(module.network.conv_in) is nn.Conv2d
    assert not module.fusion.weight.any()


def test_only_an_image_generator_of_x_t_is_widened() -> None:
    with pytest.raises(ValueError, match="fusion gives 12 channels"):
        VFE(LatentFusion(4, 4, WIDTH, FUSED), unet(6))


def adapter_in_the_first_layer() -> None:
    vfe(lora=Lora(targets=("to_q", "conv_in")))


def narrower() -> None:
    widen(unet(), 4)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            adapter_in_the_first_layer,
            r"conv_in is a peft\..*; only a plain torch.nn.Conv2d is widened",
        ),
        (narrower, "channels is 4; it must be above the 4 that conv_in reads"),
    ],
)
def test_unsupported_networks_are_refused(act: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


def test_a_widened_layer_keeps_the_same_parameter_objects() -> None:
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
    conv.weight.requires_grad_(False)
    layer = WidenedConv2d(conv, 7)
    assert layer.weight is conv.weight
    assert layer.bias is None
    x = torch.randn(2, 7, 8, 8)
    assert torch.equal(layer(x), conv(x[:, :3]))
    with torch.no_grad():
        layer.further.normal_()
    whole = nn.functional.conv2d(x, torch.cat([layer.weight, layer.further], dim=1), stride=2, padding=1)
    torch.testing.assert_close(layer(x), whole, rtol=1e-4, atol=1e-5)
