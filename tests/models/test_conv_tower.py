from __future__ import annotations

import pytest
import torch

from vlad_lightning.models.conv_tower import ConvTower


def tower(**changes: object) -> ConvTower:
    torch.manual_seed(0)
    settings: dict[str, object] = {"image_size": 32, "channels": (8, 16, 16), "blocks": (0, 1, 1), "layers": 1}
    return ConvTower(**{**settings, "heads": 2, "projection": 12, **changes}).eval()  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("finer", [0, 1, 2])
def test_summary_and_patches_have_the_same_width(finer: int) -> None:
    said = tower(finer=finer)(torch.randn(2, 3, 32, 32))
    assert said.pooled.shape == (2, 12)
    assert said.patches.shape == (2, 4 * 2**finer, 4 * 2**finer, 12)


@torch.no_grad()
@pytest.mark.parametrize("finer", [0, 1])
def test_a_patch_depends_most_on_its_part_of_the_picture(finer: int) -> None:
    of = tower(finer=finer)
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = pixels.clone()
    other[:, :, 8:16, 24:32] *= -1
    moved = (of(other).patches - of(pixels).patches).norm(dim=-1)[0]
    coarse = torch.nn.functional.avg_pool2d(moved[None], 2**finer)[0]
    assert divmod(int(coarse.argmax()), 4) == (1, 3)


@torch.no_grad()
@pytest.mark.parametrize("finer", [0, 1])
def test_patches_and_summary_depend_on_positions(finer: int) -> None:
    of = tower(finer=finer)
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[0, :, 0:8, 0:8] = pixels[1, :, 24:32, 24:32] = 1
    said = of(pixels)
    assert (said.pooled[0] - said.pooled[1]).abs().max() > 1e-4
    assert (said.patches[0, 0, 0] - said.patches[1, -1, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("finer", [0, 2])
def test_every_weight_has_a_gradient_of_sufficient_size(finer: int) -> None:
    of = tower(finer=finer).train()
    said = of(torch.randn(4, 3, 32, 32))
    (said.pooled.square().sum() + said.patches.square().sum()).backward()
    inside = {"first.weight", "first.bias", "first_norm.weight", "first_norm.bias"}  # a block starts as the identity
    inside |= {"second_norm.weight", "second_norm.bias"}
    for name, weight in of.named_parameters():
        assert weight.grad is not None, name
        assert weight.is_contiguous(), name  # FSDP can shard only contiguous weights
        if not any(name.endswith(part) for part in inside):
            assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 36}, r"image_size is 36; it must be divisible by 8"),
        ({"blocks": (1, 1)}, r"channels is \(8, 16, 16\), blocks \(1, 1\); allowed: as many of both"),
        ({"finer": 3}, r"finer is 3; allowed: 0 to 2"),
        ({"channels": (8, 12, 16)}, r"channels is \(8, 12, 16\), blocks .*; allowed: .*, channels divisible by 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tower(**changes)
