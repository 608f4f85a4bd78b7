from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from vlad_lightning.models.lora import Lora, fold, load_plain
from vlad_lightning.models.text.encoder import build_text_tower

IDS = torch.tensor([[4, 9, 7, 3, 0]])


def tower(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_text_tower(16, layers=2, heads=2, vocabulary=20, context=5).eval()


def trained(network: nn.Module) -> nn.Module:
    """Build the network with nonzero adapters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=generator)
    return network


def adapted(lora: Lora) -> nn.Module:
    network = tower()
    lora.inject(network)
    return trained(network)


def said(network: nn.Module) -> Tensor:
    with torch.no_grad():
        states: Tensor = network(input_ids=IDS).last_hidden_state
    return states


LORA = Lora(rank=3, alpha=12)


def test_adapters_start_as_no_ops_and_only_they_learn() -> None:
    network = tower()
    before = said(network)
    LORA.inject(network)
    assert torch.equal(said(network), before)
    learning = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert len(learning) == 2 * 2 * 2  # A and B of q_proj and v_proj in two layers
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)
    assert all("q_proj" in name or "v_proj" in name for name in learning)


def test_folded_weights_give_the_output_of_the_adapted_network() -> None:
    network, plain = adapted(LORA), tower(seed=9)
    plain.load_state_dict(fold(network.state_dict(), LORA.scale), strict=True)
    assert (said(network) - said(tower())).abs().max() > 0.1  # the adapters do something
    torch.testing.assert_close(said(plain), said(network), rtol=1e-4, atol=1e-5)


def test_folding_equals_pefts_merge() -> None:
    network = adapted(LORA)
    folded = fold(network.state_dict(), LORA.scale)
    for module in network.modules():
        if isinstance(module, LoraLayer):
            module.merge()
    merged = {k.replace(".base_layer.", "."): v for k, v in network.state_dict().items() if ".lora_" not in k}
    torch.testing.assert_close(folded, merged, rtol=1e-6, atol=1e-6)


def test_folding_equals_merge_and_unload_of_a_peft_model() -> None:
    config = LoraConfig(r=3, lora_alpha=12, target_modules=["q_proj", "v_proj"])
    wrapped = get_peft_model(tower(), config)
    trained(wrapped)
    state = {k.removeprefix("base_model.model."): v.clone() for k, v in wrapped.state_dict().items()}
    merged = wrapped.merge_and_unload().state_dict()
    torch.testing.assert_close(fold(state, LORA.scale), dict(merged), rtol=1e-6, atol=1e-6)


def test_alpha_matters() -> None:
    state = adapted(LORA).state_dict()
    name = next(k for k in fold(state, 1.0) if k.endswith("layers.1.self_attn.q_proj.weight"))
    base = fold(state, 0.0)[name]
    torch.testing.assert_close(fold(state, 4.0)[name] - base, 4 * (fold(state, 1.0)[name] - base), rtol=1e-4, atol=1e-5)
    assert (LORA.scale, Lora(rank=8).scale, Lora(rank=4, alpha=16).scale) == (4.0, 1.0, 4.0)


def test_a_plain_state_dict_is_unchanged() -> None:
    state = tower().state_dict() | {"_extra_state": "a tokenizer"}
    assert fold(state, 7.0) == state


def test_half_precision_is_kept_and_added_in_float32() -> None:
    network = adapted(LORA)
    state = {k: v.bfloat16() for k, v in network.state_dict().items()}
    folded = fold(state, LORA.scale)
    assert {v.dtype for v in folded.values()} == {torch.bfloat16}
    exact = fold({k: v.double() for k, v in state.items()}, LORA.scale)
    torch.testing.assert_close(folded, {k: v.bfloat16() for k, v in exact.items()}, rtol=0.01, atol=1e-6)


def test_a_unets_attention_folds_too() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    plain, lora = deepcopy(unet), Lora(rank=2, alpha=3, targets=("to_q", "to_v", "to_out.0"))
    lora.inject(unet)
    plain.load_state_dict(fold(trained(unet).state_dict(), lora.scale), strict=True)
    x, text = torch.ones(1, 4, 8, 8), torch.ones(1, 3, 8)
    with torch.no_grad():
        expected = unet(x, 3, encoder_hidden_states=text).sample
        torch.testing.assert_close(plain(x, 3, encoder_hidden_states=text).sample, expected, rtol=1e-4, atol=1e-5)


def test_plain_weights_load_into_a_network_with_adapters() -> None:
    network, source = tower(), tower(seed=5)
    LORA.inject(network)
    load_plain(network, source.state_dict())
    assert torch.equal(said(network), said(source))


def test_adapters_are_unchanged_when_plain_weights_load() -> None:
    network = adapted(LORA)
    before = {k: v.clone() for k, v in network.state_dict().items() if "lora_" in k}
    load_plain(network, tower(seed=5).state_dict())
    after = {k: v for k, v in network.state_dict().items() if "lora_" in k}
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_plain_weights_load_into_a_plain_network() -> None:
    network = tower()
    load_plain(network, tower(seed=5).state_dict())
    assert torch.equal(said(network), said(tower(seed=5)))


def without_one(state: dict[str, Tensor]) -> None:
    state.popitem()


def with_another(state: dict[str, Tensor]) -> None:
    state["another"] = torch.zeros(1)


def with_another_shape(state: dict[str, Tensor]) -> None:
    state[next(iter(state))] = torch.zeros(1)


@pytest.mark.parametrize("injected", [True, False])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [(without_one, "Missing key"), (with_another, "Unexpected key.*another"), (with_another_shape, "size mismatch")],
)
def test_loading_is_strict(spoil: Callable[[dict[str, Tensor]], None], message: str, injected: bool) -> None:
    network, state = tower(), dict(tower().state_dict())
    if injected:
        LORA.inject(network)
    spoil(state)
    with pytest.raises(RuntimeError, match=message):
        load_plain(network, state)


def test_settings_without_any_adapter_are_refused() -> None:
    with pytest.raises(ValueError, match="rank is 0; it must be at least 1"):
        Lora(rank=0)
    with pytest.raises(ValueError, match="targets is empty"):
        Lora(targets=())
