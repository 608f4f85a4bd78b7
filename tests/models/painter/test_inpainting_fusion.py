from __future__ import annotations

from pathlib import Path

import torch

from vlad_lightning.models.painter.fusion import InpaintingFusion, LatentFusion


def trained(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)


def test_it_starts_at_zero_and_the_first_step_opens_it() -> None:
    region = InpaintingFusion(4, 6)
    known, steps = torch.randn(3, 5, 6, 7), torch.tensor([0, 400, 999])
    added = region(known, steps)
    assert torch.equal(added, torch.zeros(3, 6, 6, 7))
    (added - 1).square().sum().backward()
    assert region.weight.grad is not None
    assert (region.weight.grad.abs().sum(dim=0) > 0).all()


def test_the_sum_equals_one_wider_fusion() -> None:
    """Further input channels of Eq. 7: as in a LatentFusion whose layout has the mask and the latent behind it."""
    known, z_t, x_t = torch.randn(2, 5, 6, 7), torch.randn(2, 3, 6, 7), torch.randn(2, 4, 6, 7)
    steps, text = torch.tensor([10, 900]), torch.randn(2, 8)
    fusion, region = LatentFusion(4, 3, 8, 6, time_width=16), InpaintingFusion(4, 6, time_width=16)
    wide = LatentFusion(4, 8, 8, 6, time_width=16)
    trained(fusion)
    trained(region)
    region.time.load_state_dict(fusion.time.state_dict())  # one time embedding
    wide.time.load_state_dict(fusion.time.state_dict())
    wide.text_norm.load_state_dict(fusion.text_norm.state_dict())
    with torch.no_grad():
        wide.bias.copy_(fusion.bias)
        wide.weight.copy_(torch.cat([fusion.weight[:, :7], region.weight, fusion.weight[:, 7:]], dim=1))
        for name in ("weight", "bias"):
            ours, more = getattr(fusion.modulation, name), getattr(region.modulation, name)
            getattr(wide.modulation, name).copy_(torch.cat([ours[:7], more, ours[7:]]))
        ours = fusion(x_t, steps, z_t, text) + region(known, steps)
        torch.testing.assert_close(ours, wide(x_t, steps, torch.cat([z_t, known], dim=1), text), atol=1e-5, rtol=1e-5)


def test_it_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    region = InpaintingFusion(4, 6, time_width=16)
    trained(region)
    region.save_pretrained(tmp_path)
    loaded = InpaintingFusion.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), region.state_dict(), rtol=0, atol=0)
