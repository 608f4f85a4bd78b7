from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tiny_system as tiny
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from vlad_lightning.models.fsdp import shard
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.attention import check_fusable, fused_qkv

GENERATOR = torch.Generator().manual_seed(0)
X, TOKENS, POOLED = (torch.randn(2, *shape, generator=GENERATOR) for shape in ((16, 16, 16), (5, 32), (32,)))
TIMES = torch.tensor([3, 900])


def network(family: str) -> Any:
    torch.manual_seed(0)
    return tiny.unet() if family == "unet" else tiny.transformer()


def answer(net: Any) -> Tensor:
    pooled = {} if hasattr(net, "mid_block") else {"pooled_projections": POOLED}
    with torch.no_grad():
        return net(X, encoder_hidden_states=TOKENS, timestep=TIMES, **pooled).sample


@pytest.mark.parametrize("family", ["unet", "transformer"])
def test_results_differ_by_rounding_only_with_fewer_products(family: str) -> None:
    net = network(family)
    plain, products = answer(net), 0

    def count(*_: Any) -> None:
        nonlocal products
        products += 1

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, torch.nn.Linear)]
    answer(net)
    unfused, products = products, 0
    with fused_qkv(net):
        handles += [
            m.register_forward_hook(count)
            for n, m in net.named_modules()
            if n.endswith(("to_qkv", "to_kv", "added_qkv"))
        ]
        torch.testing.assert_close(answer(net), plain, rtol=1e-4, atol=1e-5)
    assert products < unfused
    assert not torch.equal(plain, torch.zeros_like(plain))


@pytest.mark.parametrize("family", ["unet", "transformer"])
def test_the_network_is_restored_even_after_an_error(family: str) -> None:
    net = network(family)
    before, keys = answer(net), list(net.state_dict())
    processors = {name: type(processor) for name, processor in net.attn_processors.items()}
    with pytest.raises(RuntimeError, match="stop"), fused_qkv(net):
        raise RuntimeError("stop")
    assert list(net.state_dict()) == keys
    assert {name: type(processor) for name, processor in net.attn_processors.items()} == processors
    assert torch.equal(answer(net), before)
    with fused_qkv(net, enabled=False):
        assert torch.equal(answer(net), before)


def test_a_network_that_its_user_fused_stays_fused() -> None:
    net = network("unet")
    net.fuse_qkv_projections()
    with fused_qkv(net):
        fused = answer(net)
    assert torch.equal(answer(net), fused)
    assert any("to_qkv" in key for key in net.state_dict())


def test_adapters_are_refused() -> None:
    net = network("unet")
    check_fusable(net)
    Lora(2, 2, ("to_q", "to_v")).inject(net)
    with pytest.raises(ValueError, match="the attention layers have adapters"), fused_qkv(net):
        pass
    with pytest.raises(ValueError, match="the attention layers have adapters"):
        check_fusable(net)


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Make a mesh of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("family", ["unet", "transformer"])
def test_sharded_weights_are_refused(family: str, mesh: DeviceMesh) -> None:
    net = network(family)
    shard(net, mesh)
    with pytest.raises(ValueError, match="the weights are sharded"):
        check_fusable(net)
    with fused_qkv(net, enabled=False):
        pass
