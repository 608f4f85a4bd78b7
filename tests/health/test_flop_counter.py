from __future__ import annotations

import tiny_system as tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlad_lightning.health.throughput import FlopCounter


def test_the_count_equals_torchs() -> None:
    unet, given = tiny.unet(), (torch.randn(2, 16, 12, 12), torch.tensor([3, 500]), torch.randn(2, 5, tiny.WIDTH))
    with FlopCounterMode(display=False) as theirs:
        unet(*given).sample.sum().backward()
    with FlopCounter() as ours:
        unet(*given).sample.sum().backward()
    assert ours.flops == theirs.get_total_flops() > 0


def test_gradients_equal_those_without_it_bit_for_bit() -> None:
    unet, given = tiny.unet(), (torch.randn(2, 16, 12, 12), torch.tensor([3, 500]), torch.randn(2, 5, tiny.WIDTH))
    unet(*given).sample.square().mean().backward()
    plain = [p.grad for p in unet.parameters() if p.grad is not None]
    unet.zero_grad()
    with FlopCounter():
        unet(*given).sample.square().mean().backward()
    counted = [p.grad for p in unet.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
