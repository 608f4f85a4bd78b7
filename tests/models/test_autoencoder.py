from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.layout.pictures import picture_tensor
from vlad_lightning.models.autoencoder import KLAutoencoder, LinearAutoencoder, SpaceToDepth

CONFIG = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "latent_channels": 3,
    "scaling_factor": 0.3,
}


def images(size: int = 16) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderKL, Path]:
    """Save a tiny autoencoder with diffusers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    plain = AutoencoderKL(**CONFIG).eval()
    plain.save_pretrained(folder)
    return plain, folder


@pytest.mark.parametrize(("factor", "gain"), [(1, 1.0), (2, 1.0), (2, 2.0), (4, 0.5)])
def test_space_to_depth_loses_nothing(factor: int, gain: float) -> None:
    autoencoder = SpaceToDepth(factor, gain)
    latents = autoencoder.encode_images(images())
    assert latents.shape == (2, 3 * factor**2, 16 // factor, 16 // factor)
    assert autoencoder.latent_channels == 3 * factor**2
    assert torch.equal(autoencoder.decode_latents(latents), images())  # gains are powers of two: not even rounding
    assert latents.std().item() == pytest.approx(gain * images().std().item(), rel=1e-6)


def test_space_to_depth_keeps_neighbours_together() -> None:
    latents = SpaceToDepth(2).encode_images(images())
    block = images()[1, 2, 4:6, 6:8]  # blue, rows 4 and 5, columns 6 and 7
    assert torch.equal(latents[1, 8:12, 2, 3], block.flatten())


def test_space_to_depth_is_saved_with_its_gain(tmp_path: Path) -> None:
    SpaceToDepth(4, 2.0).save_pretrained(tmp_path)
    autoencoder = SpaceToDepth.from_pretrained(tmp_path)
    assert torch.equal(autoencoder.encode_images(images()), SpaceToDepth(4, 2.0).encode_images(images()))


@pytest.mark.parametrize(("factor", "channels"), [(2, 4), (4, 16)])
def test_the_linear_autoencoder_is_a_projection(factor: int, channels: int) -> None:
    autoencoder = LinearAutoencoder(factor)
    latents = autoencoder.encode_images(images())
    assert latents.shape == (2, channels, 16 // factor, 16 // factor)
    assert autoencoder.latent_channels == channels
    decoded = autoencoder.decode_latents(latents)
    assert decoded.shape == images().shape
    torch.testing.assert_close(autoencoder.encode_images(decoded), latents, rtol=1e-4, atol=1e-5)
    lost = decoded - images()
    assert abs((lost * decoded).mean() / images().square().mean()) < 1e-3  # orthogonal: the nearest possible


def test_the_linear_autoencoder_keeps_colours_and_axis_aligned_edges() -> None:
    autoencoder, plain = LinearAutoencoder(), torch.tensor([0.6, -0.2, -0.8]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(autoencoder.decode_latents(autoencoder.encode_images(plain)), plain, rtol=0, atol=0.01)
    upright = torch.tensor([-1.0, 1.0]).repeat(4).expand(1, 3, 8, 8)
    kept = {
        name: autoencoder.decode_latents(autoencoder.encode_images(x))
        for name, x in (("|", upright), ("-", upright.mT))
    }
    assert (kept["|"] - upright).square().mean() < 0.05
    assert kept["-"].square().mean() < 0.01  # the first thing it loses


def test_its_latents_have_about_unit_variance_on_posters(posters: Path) -> None:
    pictures = torch.cat([picture_tensor(Image.open(p)) for p in sorted(posters.rglob("image.jpg"))])
    deviations = LinearAutoencoder().encode_images(pictures).square().mean(dim=(0, 2, 3)).sqrt()
    assert ((deviations > 0.7) & (deviations < 1.4)).all()


def test_sixteen_channels_of_blocks_of_4_keep_more_than_four_of_blocks_of_2() -> None:
    source = SyntheticSource(8, size=128, seed=21, world="rich")
    pictures = torch.cat([picture_tensor(source.read(i).image) for i in range(len(source))])
    fine, coarse = LinearAutoencoder(4), LinearAutoencoder(2)
    latents = fine.encode_images(pictures)
    assert 0.5 < float(latents.square().mean()) < 2
    lost = [(a.decode_latents(a.encode_images(pictures)) - pictures).square().mean() for a in (fine, coarse)]
    assert lost[0] < 0.5 * lost[1]
    with pytest.raises(ValueError, match="factor is 3; allowed are 2 and 4"):
        LinearAutoencoder(3)


def test_the_linear_autoencoder_is_saved_and_loaded(tmp_path: Path) -> None:
    for factor in (2, 4):
        LinearAutoencoder(factor).save_pretrained(tmp_path)
        latents = LinearAutoencoder.from_pretrained(tmp_path).encode_images(images())
        assert torch.equal(latents, LinearAutoencoder(factor).encode_images(images()))


@torch.no_grad()
def test_a_published_autoencoder_loads_and_is_the_plain_class(saved: tuple[AutoencoderKL, Path]) -> None:
    plain, folder = saved
    autoencoder = KLAutoencoder.from_pretrained(folder, use_safetensors=True)
    assert isinstance(autoencoder, KLAutoencoder)
    assert autoencoder.latent_channels == 3
    latents = autoencoder.encode_images(images())
    assert latents.shape == (2, 3, 8, 8)
    torch.testing.assert_close(latents, plain.encode(images()).latent_dist.mean * 0.3)
    torch.testing.assert_close(autoencoder.decode_latents(latents), plain.decode(latents / 0.3).sample)


@torch.no_grad()
def test_large_batches_are_encoded_and_decoded_in_slices(
    saved: tuple[AutoencoderKL, Path],
) -> None:
    autoencoder = KLAutoencoder.from_pretrained(saved[1])
    many = torch.rand(11, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = torch.cat([autoencoder.encode_images(image[None]) for image in many])
    decoded = torch.cat([autoencoder.decode_latents(latent[None]) for latent in latents])
    seen: list[int] = []
    for part in (autoencoder.encoder, autoencoder.decoder):
        part.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    torch.testing.assert_close(autoencoder.encode_images(many), latents)
    torch.testing.assert_close(autoencoder.decode_latents(latents), decoded)
    assert max(seen) < 11
    assert sum(seen) == 2 * 11


@torch.no_grad()
def test_encoding_is_not_random(saved: tuple[AutoencoderKL, Path]) -> None:
    autoencoder = KLAutoencoder.from_pretrained(saved[1])
    assert torch.equal(autoencoder.encode_images(images()), autoencoder.encode_images(images()))


@torch.no_grad()
def test_the_plain_class_reads_our_saved_weights(saved: tuple[AutoencoderKL, Path], tmp_path: Path) -> None:
    autoencoder = KLAutoencoder.from_pretrained(saved[1])
    autoencoder.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    plain = AutoencoderKL.from_pretrained(tmp_path)
    torch.testing.assert_close(plain.state_dict(), saved[0].state_dict(), rtol=0, atol=0)
    assert plain.config.scaling_factor == 0.3


@pytest.mark.parametrize(
    "autoencoder",
    [SpaceToDepth(4), LinearAutoencoder(2), KLAutoencoder(**CONFIG)],
    ids=lambda each: type(each).__name__,
)
def test_the_factor_is_how_many_pixels_a_position_of_the_latent_has(autoencoder) -> None:
    latents = autoencoder.encode_images(torch.zeros(1, 3, 16, 32))
    assert (latents.shape[-2] * autoencoder.factor, latents.shape[-1] * autoencoder.factor) == (16, 32)
