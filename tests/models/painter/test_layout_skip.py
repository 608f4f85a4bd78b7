from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from torch import Tensor, nn

from vlad_lightning.models.painter.layout_skip import LayoutSkip
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Conditioning

SPACE, LAYOUT = tiny.LATENT, tiny.LATENT + 7  # of the glyphs, and a phrase map's four channels and its three places


def skip() -> LayoutSkip:
    torch.manual_seed(3)
    return LayoutSkip(SPACE, LAYOUT, width=8)


def opened(module: LayoutSkip) -> LayoutSkip:
    nn.init.normal_(module.layers[-1].weight, std=0.1)
    return module


def with_skip(module: LayoutSkip | None) -> VFE:
    torch.manual_seed(0)
    vfe = tiny.image_generator().vfe
    return VFE(vfe.fusion, vfe.unet, phrase_map=vfe.phrase_map, layout_skip=module).eval()


def inputs() -> tuple[Tensor, Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, SPACE, 16, 16, generator=generator)
    z = torch.randn(2, LAYOUT, 16, 16, generator=generator)
    torch.manual_seed(1)
    with torch.no_grad():
        told = tiny.prompt_encoder()(["a red circle and 'HI'", "a blue square"])
    return x_t, torch.tensor([3, 999]), z, told


@torch.no_grad()
def test_a_network_starts_exactly_as_without_it() -> None:
    plain = with_skip(None)
    assert torch.equal(with_skip(skip())(*inputs()), plain(*inputs()))


@torch.no_grad()
def test_it_adds_three_convolutions_of_prediction_latent_and_layout() -> None:
    module = opened(skip())
    plain = with_skip(None)
    x_t, steps, z, told = inputs()
    predicted = plain(x_t, steps, z, told)
    first, second, last = module.layers[0], module.layers[2], module.layers[4]
    h = nn.functional.silu(first(torch.cat([predicted, x_t, z], dim=1)))
    expected = predicted + last(nn.functional.silu(second(h)))
    torch.testing.assert_close(with_skip(module)(x_t, steps, z, told), expected, atol=1e-5, rtol=1e-5)


def test_it_learns_from_the_first_step_and_reads_the_layout_from_the_second() -> None:
    """The last convolution has a gradient at once, the first has one as soon as the last is not zero."""
    vfe = with_skip(skip())
    vfe(*inputs()).square().sum().backward()
    module = vfe.layout_skip
    assert module is not None
    assert module.layers[-1].weight.grad.abs().sum() > 0
    opened(module)
    vfe(*inputs()).square().sum().backward()
    assert module.layers[0].weight.grad[:, 2 * SPACE :].abs().amax(dim=(0, 2, 3)).gt(0).all()  # each channel of z_t


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: LayoutSkip(SPACE + 1, LAYOUT), r"layout_skip.latent_channels is 13; fusion.latent_channels is 12"),
        (lambda: LayoutSkip(SPACE, LAYOUT - 1), r"layout_skip.layout_channels is 18; fusion.layout_channels is 19"),
    ],
)
def test_channels_that_are_not_those_of_the_fusion_are_refused(made: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_skip(made())  # type: ignore[operator]


def test_an_image_generator_without_layouts_has_nothing_to_skip() -> None:
    vfe = tiny.image_generator(hierarchical=False).vfe
    with pytest.raises(ValueError, match=r"layout_skip.layout_channels is 0; .* not 0"):
        VFE(vfe.fusion, vfe.unet, layout_skip=LayoutSkip(SPACE, 0))


def test_a_pipeline_has_it_and_a_folder_keeps_it(tmp_path: Path) -> None:
    image_generator = tiny.image_generator()
    vfe = image_generator.vfe
    image_generator.vfe = VFE(vfe.fusion, vfe.unet, phrase_map=vfe.phrase_map, layout_skip=opened(skip()))
    pipe = VLADPipeline.from_module(VFEModule(image_generator, None, tiny.layout_generator()))
    pipe.save_pretrained(tmp_path)
    again = VLADPipeline.from_pretrained(tmp_path)
    made = [each.image_generator.vfe(*inputs()).detach() for each in (pipe, again)]
    assert torch.equal(*made)
    parts = again.image_generator.vfe
    assert not torch.equal(VFE(parts.fusion, parts.unet, phrase_map=parts.phrase_map)(*inputs()), made[0])
