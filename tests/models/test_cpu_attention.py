from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.models import cpu_attention
from vlad_lightning.models.cpu_attention import plain_attention

BATCH, HEADS, QUERIES, KEYS, WIDTH = 3, 2, 5, 7, 8


def states(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = (QUERIES, KEYS, KEYS)
    return [
        torch.randn(BATCH, HEADS, length, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for length in lengths
    ]


def torchs(*inputs: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    """Attend by torch's plain kernel, which takes masks to add only."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=torch.float64).masked_fill(~attn_mask, -torch.inf)
    mixed: Tensor = torch.ops.aten._scaled_dot_product_attention_math(*inputs, attn_mask, **options)[0]
    return mixed


def masks() -> dict[str, dict[str, Any]]:
    some = torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(1)) < 0.6
    some[0, 0, 2] = False  # a query that may attend to nothing
    keys = torch.ones(BATCH, 1, 1, KEYS, dtype=torch.bool)
    keys[1, ..., 4:] = False
    bias = torch.randn(QUERIES, KEYS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return {
        "none": {},
        "pairs": {"attn_mask": some},
        "keys": {"attn_mask": keys},
        "added": {"attn_mask": bias},
        "minus infinity": {"attn_mask": bias.masked_fill(~some, -torch.inf)},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.3, "attn_mask": keys},
        "scale 0": {"scale": 0.0},
    }


@pytest.mark.parametrize("name", list(masks()))
def test_attention_and_its_gradients_are_those_of_torch(name: str) -> None:
    def run(attend: Any) -> list[Tensor]:
        inputs = states()
        mixed = attend(*inputs, **masks()[name])
        return [mixed, *torch.autograd.grad((mixed * mixed.detach().cos()).sum(), inputs)]

    for own, other in zip(run(plain_attention), run(torchs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_bfloat16_is_as_near_to_the_truth_as_torch() -> None:
    query, key, value = states()
    exact = plain_attention(query, key, value)
    query, key, value = states(torch.bfloat16)
    own = plain_attention(query, key, value)
    assert own.dtype == torch.bfloat16
    assert (own - exact).abs().max() <= 1.5 * (torchs(query, key, value) - exact).abs().max()


def test_dropout_and_shared_heads_are_left_to_torch() -> None:
    query, key, value = states()
    torch.manual_seed(0)
    dropped = plain_attention(query, key, value, dropout_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(dropped, torchs(query, key, value, dropout_p=0.5))
    mask = masks()["pairs"]["attn_mask"]
    shared = plain_attention(query, key[:, :1], value[:, :1], mask, enable_gqa=True)
    torch.testing.assert_close(shared, plain_attention(query, key[:, :1], value[:, :1], mask))


def test_all_attention_on_the_cpu_uses_it_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []

    def counted(query: Tensor, key: Tensor, value: Tensor, *more: Any, **options: Any) -> Tensor:
        calls.append(query.dtype)
        return plain_attention(query, key, value, *more, **options)

    monkeypatch.setattr(cpu_attention, "plain_attention", counted)
    x = torch.randn(1, 2, 4, 8, requires_grad=True)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with cpu_attention.plain_attention_on_cpu():
        F.scaled_dot_product_attention(x, x, x).sum().backward()
        with torch.no_grad():
            attended = F.scaled_dot_product_attention(x, x, x)
        with torch.autocast("cpu", torch.bfloat16):
            F.scaled_dot_product_attention(x, x, x)
            layer(x[0], x[0], x[0], need_weights=False)
        assert calls == [torch.float32] * 2 + [torch.bfloat16] * 2
        compiled = torch.compile(lambda x: F.scaled_dot_product_attention(x, x, x), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), attended)
    before = len(calls)
    torch.testing.assert_close(F.scaled_dot_product_attention(x, x, x), attended)
    assert len(calls) == before
    assert x.grad is not None
