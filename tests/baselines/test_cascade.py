from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from vlad_lightning.baselines.cascade import UPSCALER_SAMPLER, Cascade, shrunk
from vlad_lightning.baselines.cascade_module import CascadeModule
from vlad_lightning.baselines.cascade_words import WordEncoder, build_t5
from vlad_lightning.baselines.denoising import DenoisingSettings
from vlad_lightning.diffusion.generators import SampleGenerators, sampling_generators
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.types import Batch, Layout

WIDTH, SMALL = 16, 16
SAMPLER = ImageSampler(steps=4, guidance_scale=7.0, eta=1.0)


def build_unet(inputs: int, side: int, **changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=inputs,
        out_channels=3,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        **changes,
    )


def schedule(**changes: Any) -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
        clip_sample=False,
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        **changes,
    )


def cascade(words: bool = True, seed: int = 0, **changes: Any) -> Cascade:
    torch.manual_seed(seed)
    encoder = WordEncoder(build_t5(WIDTH, 1, 2, 64), min_frequency=2)
    if words:
        encoder.learn_words(tiny.CAPTIONS)
    settings: dict[str, Any] = {
        "base": build_unet(3, SMALL),
        "upscaler": build_unet(6, tiny.SIZE, class_embed_type="timestep"),
        "schedule": schedule(),
        "base_size": SMALL,
        "image_size": tiny.SIZE,
        "upscaler_sampler": replace(UPSCALER_SAMPLER, steps=2),
    }
    return Cascade(encoder, **settings | changes)


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=4).val_dataloader()))


def draw(system: Cascade, prompts: list[str], sampler: ImageSampler = SAMPLER) -> Tensor:
    generators = sampling_generators(0, [(prompt,) for prompt in prompts])
    with torch.no_grad():
        return system.generate(prompts, None, SystemSampling(sampler), generators).images


def test_both_losses_are_the_weighted_errors_of_the_noise(batch: Batch) -> None:
    """Compare in float64 with the sums written out, by sample."""
    system = cascade(training=DenoisingSettings(caption_dropout=0.0)).double()
    keys = (0, "baseline", "val")
    drawn = SampleGenerators.of_samples("cpu", keys, batch.keys)
    found = system.losses(batch_in_double(batch), SampleGenerators.of_samples("cpu", keys, batch.keys))
    alpha_bar = system.schedule.alphas_cumprod.double()
    x0 = batch.images.double()
    small = x0.unflatten(3, (SMALL, 2)).unflatten(2, (SMALL, 2)).mean(dim=(3, 5))  # each 2 x 2 block's mean
    drawn.uniform()  # which captions are dropped
    states = system.text_encoder(batch.prompts)

    def error(images: Tensor, network: Any) -> Tensor:
        steps = (drawn.strata() * 1000).long()
        noise = drawn.normal(*images.shape[1:]).double()
        a = alpha_bar[steps].view(-1, 1, 1, 1)
        predicted = network(a.sqrt() * images + (1 - a).sqrt() * noise, steps)
        weight = (5 * (1 - a) / a).clamp(max=1).flatten()
        return sum(weight[i] * ((predicted[i] - noise[i]) ** 2).mean() for i in range(len(batch))) / len(batch)

    with torch.no_grad():
        told = {"encoder_hidden_states": states[0], "encoder_attention_mask": states[1]}
        base = error(small, lambda x, t: system.base(x, t, **told).sample)
        level = (drawn.uniform() * 500).long()
        a = alpha_bar[level].view(-1, 1, 1, 1)
        larger = F.interpolate(small, (32, 32), mode="bilinear", align_corners=True)
        seen = a.sqrt() * larger + (1 - a).sqrt() * drawn.normal(3, 32, 32).double()
        upscaler = error(
            x0, lambda x, t: system.upscaler(torch.cat([x, seen], 1), t, class_labels=level, **told).sample
        )
    torch.testing.assert_close(found["loss_base"].double(), base, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["loss_upscaler"].double(), upscaler, rtol=1e-5, atol=0)
    assert float(found["loss"].detach()) == pytest.approx(float(base + upscaler))
    assert float(base) > 0
    assert float(upscaler) > 0


def batch_in_double(batch: Batch) -> Batch:
    return replace(batch, images=batch.images.double())


def test_the_share_of_dropped_captions_is_met(batch: Batch) -> None:
    system = cascade(training=DenoisingSettings(caption_dropout=0.5))
    read: list[str] = []
    system.text_encoder.register_forward_pre_hook(lambda _, args: read.extend(args[0]))
    with torch.no_grad():
        for copy in range(12):
            names = [f"{key}-{copy}" for key in batch.keys]
            system.losses(batch, SampleGenerators.of_samples("cpu", (0,), names))
    assert set(read) == {"", *batch.prompts}
    assert abs(read.count("") / len(read) - 0.5) < 4 * (0.25 / len(read)) ** 0.5


def test_sampling_is_the_posterior_with_thresholding_and_guidance() -> None:
    """Compare one image's first stage with DDPM's equations (arXiv 2006.11239, Eq. 6 and 7) written out."""
    system = cascade()
    prompt = 'a red circle and "HELLO"'
    (generator,) = sampling_generators(0, [(prompt,)])
    alpha_bar = torch.cat([torch.ones(1), system.schedule.alphas_cumprod]).double()
    x = torch.randn(1, 3, SMALL, SMALL, generator=generator)
    with torch.no_grad():
        states, mask = system.text_encoder([prompt, ""])
        for now, before in ((1000, 750), (750, 500), (500, 250), (250, 0)):
            both = x.repeat(2, 1, 1, 1).float()
            t = torch.tensor([now - 1] * 2)
            told, untold = system.base(both, t, encoder_hidden_states=states, encoder_attention_mask=mask).sample
            noise = (untold + 7.0 * (told - untold)).double()
            a, b = alpha_bar[now], alpha_bar[before]
            x0 = (x.double() - (1 - a).sqrt() * noise) / a.sqrt()
            s = x0.abs().flatten().quantile(0.95).clamp(1, 1.5)
            x0 = x0.clamp(-s, s) / s
            mean = b.sqrt() * (1 - a / b) / (1 - a) * x0 + (a / b).sqrt() * (1 - b) / (1 - a) * x.double()
            drawn = torch.randn(1, 3, SMALL, SMALL, generator=generator)
            x = mean + ((1 - b) / (1 - a) * (1 - a / b)).sqrt() * drawn
        generators = sampling_generators(0, [(prompt,)])
        ours = system._sampled(system._base, SMALL, system._both([prompt]), SAMPLER, generators)
    torch.testing.assert_close(ours.double(), x.clamp(-1, 1), atol=2e-3, rtol=0)


def test_the_second_stage_is_told_of_the_first_and_of_its_noise() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    system = cascade(noise_level=0.0)
    system.upscaler.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0], kwargs["class_labels"])), with_kwargs=True
    )
    prompts = ["a red circle"]
    draw(system, prompts)
    assert len(seen) == 2
    assert all(torch.equal(level, torch.zeros(2, dtype=torch.int64)) for _, level in seen)
    small = shrunk(seen[0][0][:1, 3:], SMALL)
    with torch.no_grad():
        generators = sampling_generators(0, [(prompts[0],)])
        first = system._sampled(system._base, SMALL, system._both(prompts), SAMPLER, generators)
    enlarged = F.interpolate(first, (32, 32), mode="bilinear", align_corners=True)
    assert float((small - shrunk(enlarged, SMALL)).abs().mean()) < 0.05  # the least level adds a noise of 0.006


def test_an_image_depends_on_its_prompt_and_generator_only() -> None:
    system = cascade()
    one, other = 'a red circle with "HELLO" on it and a long tail of words', "a green square"
    together = draw(system, [one, other])
    assert together.shape == (2, 3, tiny.SIZE, tiny.SIZE)
    torch.testing.assert_close(draw(system, [one])[0], together[0], atol=1e-3, rtol=0)
    assert torch.equal(draw(system, [one]), draw(system, [one]))
    assert not torch.allclose(together[0], together[1])
    layouts = [Layout(("HI",), torch.tensor([[0.5, 0.5, 0.2, 0.1, 0.0]]))]
    with pytest.raises(ValueError, match="layouts is given; a Cascade uses none"):
        system.generate([one], layouts, SystemSampling(SAMPLER), [torch.Generator()])


@pytest.mark.parametrize(
    ("sampler", "changes", "message"),
    [
        (ImageSampler(steps=4), {}, r"sampler has solver 'ddim' and eta 0\.0; they must be 'ddim' and 1\.0"),
        (ImageSampler(steps=3, eta=1.0), {}, r"sampler\.steps is 3; it must divide the schedule's 1000"),
        (
            SAMPLER,
            {"upscaler_sampler": replace(UPSCALER_SAMPLER, steps=7)},
            r"upscaler_sampler\.steps is 7; it must divide",
        ),
        (ImageSampler(steps=4, eta=1.0, layout_scale=2.0), {}, r"layout_scale is 2\.0"),
    ],
)
def test_samplers_that_do_not_fit_are_refused(sampler: ImageSampler, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CascadeModule(cascade(words=False, **changes), sampler=sampler)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"upscaler\.in_channels is 3; it must be 6"):
        cascade(False, upscaler=build_unet(3, tiny.SIZE, class_embed_type="timestep"))
    with pytest.raises(ValueError, match=r"upscaler\.class_embed_type is None; it must be 'timestep'"):
        cascade(False, upscaler=build_unet(6, tiny.SIZE))
    with pytest.raises(ValueError, match=r"image_size is 40; it must be a multiple of base_size, 16"):
        cascade(False, image_size=40)
    with pytest.raises(ValueError, match=r"noise_level is 0\.6; it must lie in \[0, most_noise\]"):
        cascade(False, noise_level=0.6)


def test_a_fit_learns_words_moves_every_weight_and_resumes_exactly(posters: Path, tmp_path: Path) -> None:
    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> tuple[Any, CascadeModule]:
        module, trainer = CascadeModule(cascade(False, seed), tiny.FAST, SAMPLER), tiny.trainer(steps)
        trainer.fit(module, datamodule=tiny.data(posters), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    start = {name: weight.clone() for name, weight in cascade(False, 0).named_parameters()}
    _, whole = fit(4, 0)
    ended = dict(whole.baseline.named_parameters())
    assert {name for name, weight in start.items() if torch.equal(weight, ended[name])} == set()
    fit(2, 0)[0].save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(4, 1, tmp_path / "stopped.ckpt")
    assert all(torch.equal(value, ended[name]) for name, value in resumed.baseline.named_parameters())
    assert torch.equal(draw(resumed.baseline, ["a red circle"]), draw(whole.baseline, ["a red circle"]))


def test_a_test_without_a_tokenizer_is_refused(posters: Path) -> None:
    module = CascadeModule(cascade(words=False), sampler=SAMPLER)
    with pytest.raises(ValueError, match=r"model\.baseline\.text_encoder has no tokenizer"):
        tiny.trainer().test(module, datamodule=tiny.data(posters))
