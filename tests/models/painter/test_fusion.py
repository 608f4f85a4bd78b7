from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.models.painter.fusion import LatentFusion


def inputs(size: int = 3, layout: int = 2, width: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(size, 4, 6, 7, generator=generator)
    z_t = torch.randn(size, layout, 6, 7, generator=generator)
    text = torch.randn(size, width, generator=generator)
    return x_t, torch.tensor([0, 400, 999])[:size], z_t, text


def trained(fusion: LatentFusion) -> LatentFusion:
    """Build the fusion with every weight changed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in fusion.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return fusion


def test_it_starts_as_the_identity_on_x_t_bit_for_bit() -> None:
    x_t, t, z_t, text = inputs()
    assert torch.equal(LatentFusion(4, 2, 5)(x_t, t, z_t, text), x_t)


def test_further_channels_start_at_zero() -> None:
    x_t, t, z_t, text = inputs()
    fused = LatentFusion(4, 2, 5, out_channels=9)(x_t, t, z_t, text)
    assert torch.equal(fused[:, :4], x_t)
    assert torch.equal(fused[:, 4:], torch.zeros(3, 5, 6, 7))


@pytest.mark.parametrize("layout", [0, 2, 5, 40])
@torch.no_grad()
def test_further_channels_can_start_open_and_x_t_is_kept(layout: int) -> None:
    x_t, t, z_t, text = inputs(layout=layout)
    torch.manual_seed(0)
    fusion = LatentFusion(4, layout, 5, out_channels=9)
    fusion.open_further()
    given = z_t if layout else None
    fused = fusion(x_t, t, given, text)
    assert torch.equal(fused[:, :4], x_t)
    assert torch.equal(fusion(-x_t, t, given, text)[:, 4:], fused[:, 4:])
    assert fused[:, 4:].std(dim=(0, 2, 3)).min() > 0.1
    read = fusion.weight[4:, 4 : 4 + layout]
    assert torch.linalg.matrix_rank(read) == min(5, layout)  # all of z_t if there is room
    assert not torch.equal(fusion(x_t, t, given, text.flip(0))[:, 4:], fused[:, 4:])


@torch.no_grad()
def test_the_opened_text_adds_about_unit_variance() -> None:
    torch.manual_seed(0)
    fusion = LatentFusion(1, 0, 64, out_channels=401)
    fusion.open_further()
    text = 5 + 3 * torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    told = fusion(torch.zeros(8, 1, 1, 1), torch.zeros(8).long(), None, text)[:, 1:]
    assert told.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("out_channels", [4, 6])
def test_it_is_a_1x1_convolution_with_modulated_weights(out_channels: int) -> None:
    """Eq. 7 to the letter: concatenate, spread t over space, convolve each sample with its own W_t."""
    x_t, t, z_t, text = inputs()
    fusion = trained(LatentFusion(4, 2, 5, out_channels=out_channels))
    fused = fusion(x_t, t, z_t, text)
    for i in range(3):
        scale = 1 + fusion.modulation(fusion.time(fusion.frequencies(t[i : i + 1])))[0]
        told = F.layer_norm(text[i], (5,), fusion.text_norm.weight, fusion.text_norm.bias)
        joined = torch.cat([x_t[i], z_t[i], told[:, None, None].expand(5, 6, 7)])[None]
        convolved = F.conv2d(joined, (fusion.weight * scale)[:, :, None, None], fusion.bias)[0]
        kept = torch.cat([x_t[i], torch.zeros(out_channels - 4, 6, 7)])
        torch.testing.assert_close(fused[i], kept + convolved, rtol=1e-5, atol=1e-5)


def test_the_weights_depend_on_time_once_trained() -> None:
    x_t, _, z_t, text = inputs(1)
    fusion = trained(LatentFusion(4, 2, 5))
    early, late = (fusion(x_t, torch.tensor([t]), z_t, text) for t in (0, 999))
    assert (early - late).abs().mean() > 0.01


@pytest.mark.parametrize("reader", ["x_t", "layout", "text"])
def test_every_input_is_read_and_has_a_gradient(reader: str) -> None:
    x_t, t, z_t, text = inputs()
    values = {"x_t": x_t, "layout": z_t, "text": text}
    fusion = trained(LatentFusion(4, 2, 5))
    before = fusion(x_t, t, z_t, text)
    values[reader] = values[reader].roll(1, dims=0)
    assert not torch.allclose(fusion(values["x_t"], t, values["layout"], values["text"]), before)


def test_the_first_step_can_open_it() -> None:
    x_t, t, z_t, text = inputs()
    fusion = LatentFusion(4, 2, 5)
    fusion(x_t, t, z_t, text).square().sum().backward()
    assert fusion.weight.grad is not None
    assert (fusion.weight.grad.abs().sum(dim=0) > 0).all()  # each input channel: x_t, z_t and t


def test_it_works_without_a_layout() -> None:
    x_t, t, _, text = inputs()
    assert torch.equal(LatentFusion(4, 0, 5)(x_t, t, None, text), x_t)
    assert trained(LatentFusion(4, 0, 5))(x_t, t, None, text).shape == x_t.shape


def test_too_few_output_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="out_channels is 3"):
        LatentFusion(4, 2, 5, out_channels=3)


def test_it_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    fusion = trained(LatentFusion(4, 2, 5, out_channels=6, time_width=16))
    fusion.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = LatentFusion.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), fusion.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(*inputs()), fusion(*inputs()))
