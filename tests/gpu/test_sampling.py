"""The image generator gives the same images on a GPU as on a CPU, up to rounding."""

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
def generated(device: torch.device, sampler: ImageSampler) -> Tensor:
    image_generator = stage_2().image_generator.eval().to(device)
    generators = sampling_generators(3, [(0,), (1,)])
    images: Tensor = image_generator.generate(['a red circle and "HI"'] * 2, [LAYOUT] * 2, sampler, generators).images
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
def test_images_equal_those_of_a_cpu(sampler: ImageSampler, device: torch.device) -> None:
    torch.testing.assert_close(
        generated(device, sampler), generated(torch.device("cpu"), sampler), rtol=0.05, atol=0.05
    )


@torch.no_grad()
def test_images_in_half_precision_are_finite(device: torch.device) -> None:
    with torch.autocast(device.type, torch.bfloat16):
        images = generated(device, ImageSampler(4, guidance_scale=3.0, layout_scale=2.0))
    assert images.isfinite().all()
    assert images.std() > 0.05
