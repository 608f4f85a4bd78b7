from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from tiny_baselines import stable_diffusion

from vlad_lightning.baselines import BaselineModule
from vlad_lightning.baselines.denoising import DenoisingSettings
from vlad_lightning.diffusion.generators import SampleGenerators, sampling_generators
from vlad_lightning.diffusion.noising import add_noise, draw_timesteps
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.types import Batch, Layout


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


def test_loss_is_the_weighted_error_of_every_sample(batch: Batch) -> None:
    """Compare with the sum written out in float64, by sample and latent pixel."""
    settings = DenoisingSettings(caption_dropout=0, text_weight=4.0)
    system = stable_diffusion(training=settings)
    batch.object_mask[:] = False
    found = system.losses(batch, SampleGenerators.of_samples("cpu", (0, "t"), batch.keys))["loss"]
    generators = SampleGenerators.of_samples("cpu", (0, "t"), batch.keys)
    x0 = torch.nn.functional.pixel_unshuffle(batch.images, 2)
    steps = draw_timesteps(generators, 1000)
    noised = add_noise(system.schedule, x0, generators.normal(*x0.shape[1:]), steps, 5.0)
    with torch.no_grad():
        states = system.prompt_encoder(batch.prompts)
        predicted = system.unet(noised.x_t, steps, states.tokens, encoder_attention_mask=states.read_mask)
    ink = torch.nn.functional.max_pool2d((batch.glyphs[:, 0] > 0.25 * 255).float(), 3, 1, 1)
    near = torch.nn.functional.max_pool2d(ink, 2)
    total = 0.0
    for i in range(len(batch)):
        error = ((predicted.sample[i].double() - x0[i].double()) ** 2).mean(0)
        total += float(noised.loss_weight[i]) * float(((1 + 3 * near[i]) * error).mean())
    assert found.item() == pytest.approx(total / len(batch), rel=1e-5)


def test_an_image_depends_on_its_prompt_and_generator_alone() -> None:
    system = stable_diffusion().eval()
    prompts = ["a red circle", "a green square"]
    settings = SystemSampling(ImageSampler(steps=3, guidance_scale=2.0))
    with torch.no_grad():
        both = system.generate(prompts, None, settings, sampling_generators(0, [("a",), ("b",)]))
        one = system.generate(prompts[1:], None, settings, sampling_generators(0, [("b",)]))
        other = system.generate(prompts[:1], None, settings, sampling_generators(0, [("b",)]))
    assert both.images.shape == (2, 3, tiny.SIZE, tiny.SIZE)
    assert torch.allclose(both.images[1], one.images[0], atol=1e-5)
    assert not torch.allclose(one.images, other.images, atol=1e-3)
    assert [len(layout) for layout in both.layouts] == [0, 0]
    assert both.glyphs.eq(-1).all()


def test_guidance_leads_away_from_the_empty_prompt() -> None:
    """Two steps of DDIM for x0, written out: the second starts from the first's x0 and noise."""
    system = stable_diffusion().eval()
    scale, prompts = 2.5, ["a red circle"]
    noise = torch.randn(1, tiny.LATENT, 16, 16, generator=sampling_generators(0, [("a",)])[0])
    abar = system.schedule.alphas_cumprod.double()
    x = noise.double()
    with torch.no_grad():
        states = [system.prompt_encoder(prompts), system.prompt_encoder([""])]
        for t, then in ((999, 499), (499, None)):
            told, untold = (
                system.unet(x.float(), t, s.tokens, encoder_attention_mask=s.read_mask).sample.double() for s in states
            )
            x0 = untold + scale * (told - untold)
            eps = (x - abar[t].sqrt() * x0) / (1 - abar[t]).sqrt()
            x = x0 if then is None else abar[then].sqrt() * x0 + (1 - abar[then]).sqrt() * eps
        expected = torch.nn.functional.pixel_shuffle(x, 2).clamp(-1, 1)
        sampler = ImageSampler(steps=2, guidance_scale=scale)
        images = system.sample(prompts, [Layout.empty()], sampler, sampling_generators(0, [("a",)]))
    assert torch.allclose(images.double(), expected, atol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unet\.in_channels is 16; the autoencoder and the text encoder need 12"):
        stable_diffusion(unet=tiny.unet(16))
    with pytest.raises(ValueError, match="layout_generator is given; a StableDiffusion uses no layouts"):
        stable_diffusion(layout_generator=tiny.layout_generator())
    for name, value in (("layout_scale", 2.0), ("augmentation", 0.1), ("cache_interval", 2), ("fuse_qkv", True)):
        sampler = ImageSampler(guidance_scale=2.0, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(
            ValueError, match=f"{name} is {value}; it must be .*: a StableDiffusion has no such setting"
        ):
            BaselineModule(stable_diffusion(), sampler=sampler)
    layout, generators = Layout(("A",), torch.tensor([[0.5, 0.5, 0.5, 0.2, 0.0]])), sampling_generators(0, [("a",)])
    with pytest.raises(ValueError, match="layouts is given; a StableDiffusion uses none"):
        stable_diffusion().generate(["a"], [layout], SystemSampling(), generators)


def test_every_trained_weight_gets_a_gradient(batch: Batch) -> None:
    system = stable_diffusion(freeze_text_tower=False, training=DenoisingSettings(caption_dropout=0.5))
    system.losses(batch, SampleGenerators.of_samples("cpu", (0, "t"), batch.keys))["loss"].backward()
    assert not [name for name, value in system.named_parameters() if value.requires_grad and value.grad is None]
