"""The painter on a card paints what it paints on a CPU, up to rounding."""

from __future__ import annotations

import pytest
import torch
from card import stage_2
from torch import Tensor

from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.types import Layout

pytestmark = pytest.mark.gpu

LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.1]]))


@torch.no_grad()
def painted(device: torch.device, sampler: ImageSampler) -> Tensor:
    painter = stage_2().painter.eval().to(device)
    draws = sampling_generators(3, [(0,), (1,)])
    images: Tensor = painter.paint(['a red circle and "HI"'] * 2, [LAYOUT] * 2, sampler, draws).images
    assert images.device.type == device.type
    return images.cpu()


@pytest.mark.parametrize(
    "sampler",
    [
        ImageSampler(4, guidance_scale=3.0, layout_scale=2.0),
        ImageSampler(4, solver="dpmsolver++"),
        ImageSampler(4, cache_interval=2),
        ImageSampler(4, fuse_qkv=True),
    ],
    ids=["guided", "dpmsolver++", "cache_interval", "fuse_qkv"],
)
def test_it_paints_as_on_a_cpu(sampler: ImageSampler, device: torch.device) -> None:
    torch.testing.assert_close(painted(device, sampler), painted(torch.device("cpu"), sampler), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_it_paints_in_half_precision(device: torch.device) -> None:
    with torch.autocast(device.type, torch.bfloat16):
        images = painted(device, ImageSampler(4, guidance_scale=3.0, layout_scale=2.0))
    assert images.isfinite().all()
    assert images.std() > 0.05
