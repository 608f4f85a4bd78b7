from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from transformers import CLIPImageProcessor, SiglipImageProcessor

from vlad_lightning.models.conv_tower import ConvTower
from vlad_lightning.models.image_encoder import ImageEncoder, build_siglip_vision_tower, build_vision_tower


def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    tower = build_vision_tower(image_size=32, patch_size=8, width=16, layers=1, heads=2, projection=12)
    return ImageEncoder(tower).eval()


def pictures(size: tuple[int, int] = (32, 32)) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(2)]


def as_batch(of: list[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1).float() / 127.5 - 1 for p in of])


def smooth(height: int, width: int) -> Tensor:
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return torch.stack([torch.sin(3 * rows * columns), rows * columns, torch.cos(2 * rows + columns)])[None]


@torch.no_grad()
def test_the_preprocessing_equals_clips() -> None:
    of = encoder()
    pixels = CLIPImageProcessor(do_resize=False, do_center_crop=False)(pictures(), return_tensors="pt")["pixel_values"]
    embedded = of(as_batch(pictures()))
    torch.testing.assert_close(embedded, of.tower(pixel_values=pixels).image_embeds, rtol=1e-4, atol=1e-5)
    assert embedded.shape == (2, 12)
    assert (embedded[0] - embedded[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (20, 20)])
def test_other_sizes_are_resized_like_torchvision(size: tuple[int, int]) -> None:
    of = encoder()
    expected = resize(smooth(*size), [32, 32], InterpolationMode.BICUBIC, antialias=True)
    torch.testing.assert_close(of(smooth(*size)), of(expected), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_preprocessing_equals_siglips() -> None:
    torch.manual_seed(0)
    of = ImageEncoder(build_siglip_vision_tower(image_size=32, patch_size=8, width=16, layers=1, heads=2)).eval()
    pixels = SiglipImageProcessor(do_resize=False)(pictures(), return_tensors="pt")["pixel_values"]
    embedded = of(as_batch(pictures()))
    torch.testing.assert_close(embedded, of.tower(pixel_values=pixels).pooler_output, rtol=1e-4, atol=1e-5)
    assert of.width == embedded.shape[1] == 16


@torch.no_grad()
def test_another_width_starts_with_every_cosine_as_it_was() -> None:
    torch.manual_seed(0)
    plain = encoder()
    wide = ImageEncoder(plain.tower, width=20).eval()
    embedded = wide(as_batch(pictures()))
    assert torch.equal(embedded[:, :12], plain(as_batch(pictures())))
    assert not embedded[:, 12:].any()
    assert wide.width == 20


def test_the_preprocessing_is_not_in_the_state_dict() -> None:
    assert all(name.startswith("tower.") for name in encoder().state_dict())


def test_the_tower_has_the_requested_settings() -> None:
    config = build_vision_tower(32, 8, 16, 2, 2, 12, activation="gelu", intermediate=24).config
    assert (config.intermediate_size, config.hidden_act, config.num_hidden_layers) == (24, "gelu", 2)
    assert build_vision_tower(32, 8, 16, 1, 2, 12).config.intermediate_size == 64


def towers() -> list[ImageEncoder]:
    torch.manual_seed(0)
    small = ConvTower(image_size=32, channels=(8, 16, 16), blocks=(0, 1, 1), finer=0, layers=1, heads=2, projection=12)
    siglip = build_siglip_vision_tower(image_size=32, patch_size=8, width=16, layers=1, heads=2)
    return [encoder(), ImageEncoder(siglip).eval(), ImageEncoder(small).eval(), ImageEncoder(small, width=20).eval()]


@torch.no_grad()
@pytest.mark.parametrize("which", range(4))
def test_every_tower_returns_patches_beside_its_summary(which: int) -> None:
    of = towers()[which]
    seen, said = of.look(as_batch(pictures())), of(as_batch(pictures()))
    assert torch.equal(seen.pooled, said)
    assert said.shape == (2, of.width)
    assert seen.patches.shape == (2, 4, 4, of.width)


@torch.no_grad()
@pytest.mark.parametrize("which", range(3))
def test_patches_are_in_the_order_of_the_picture(which: int) -> None:
    """Row by row: the patch in which the picture changed changes most."""
    of = towers()[which]
    plain = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = plain.clone()
    other[:, :, 8:16, 24:32] *= -1
    moved = (of.look(other).patches - of.look(plain).patches).norm(dim=-1)[0]
    assert divmod(int(moved.argmax()), 4) == (1, 3)


@torch.no_grad()
def test_clips_patches_are_projected_like_its_summary() -> None:
    of = encoder()
    states = of.tower(pixel_values=((as_batch(pictures()) + 1) / 2 - of.mean) / of.std).last_hidden_state
    tower = of.tower
    summary = tower.visual_projection(tower.vision_model.post_layernorm(states[:, 0]))
    torch.testing.assert_close(summary, of.look(as_batch(pictures())).pooled)
