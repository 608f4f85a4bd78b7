from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vlad_lightning.models.attention_kernel import quick_backward


@pytest.mark.parametrize("halved", [False, True])
def test_the_kernel_changes_and_what_it_computes_does_not(halved: bool) -> None:
    query, key, value = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    query.requires_grad_()
    kernels, gradients = [], []
    for quick in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=halved):
            if quick:
                with quick_backward(query.device):
                    out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            else:
                out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        assert out.grad_fn is not None
        kernels.append(out.grad_fn.name())
        gradients.append(torch.autograd.grad(out.float().square().sum(), query)[0])
    assert (kernels[0] != kernels[1]) == halved
    torch.testing.assert_close(gradients[0], gradients[1], atol=0.05 if halved else 1e-6, rtol=0.05 if halved else 1e-5)
