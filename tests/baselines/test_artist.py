from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from torch import Tensor

from vlad_lightning.baselines import BaselineModule
from vlad_lightning.baselines.artist import Artist
from vlad_lightning.baselines.artist_text import TextModule
from vlad_lightning.baselines.artist_unet import run_unet
from vlad_lightning.baselines.denoising import DenoisingSettings
from vlad_lightning.callbacks import InitFrom
from vlad_lightning.diffusion.generators import SampleGenerators, sampling_generators
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.types import Batch, Layout

LAYOUT = Layout(("HELLO",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))
PROMPT = 'a red circle and "HELLO"'
SAMPLER = ImageSampler(steps=3, guidance_scale=2.5)
UNDROPPED = DenoisingSettings(caption_dropout=0.0)


def text_module(**changes: Any) -> TextModule:
    settings: dict[str, Any] = {"autoencoder": SpaceToDepth(2), "schedule": tiny.schedule(), "image_size": tiny.SIZE}
    settings |= {"freeze_text_tower": False}
    return TextModule(tiny.prompt_encoder().text_encoder, tiny.unet(2 * tiny.LATENT), **settings | changes)


def artist(text: TextModule | None = None, opened: bool = False, **changes: Any) -> Artist:
    """Build the visual module; ``opened`` draws the weights of the bridge, which start at zero."""
    torch.manual_seed(0)
    text = text_module() if text is None else text
    encoder = tiny.prompt_encoder().text_encoder
    built = Artist(text, encoder, tiny.unet(tiny.LATENT), **{"freeze_text_tower": False} | changes)
    if opened:
        for weight in built.bridge.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return built


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


def in_double(system: Artist | TextModule, batch: Batch) -> tuple[Any, Batch]:
    return system.double(), replace(batch, images=batch.images.double())


def draws(batch: Batch) -> SampleGenerators:
    return SampleGenerators.of_samples("cpu", (0, "baseline", "val"), batch.keys)


def latents(pictures: Tensor) -> Tensor:
    return torch.nn.functional.pixel_unshuffle(pictures.double(), 2)


def weighted(system: Artist | TextModule, predicted: Tensor, x0: Tensor, steps: Tensor) -> float:
    """Sum min(1 + SNR, 5) times the squared error, sample by sample."""
    alpha_bar = system.schedule.alphas_cumprod.double()[steps]
    errors = [
        min(1 + float(a / (1 - a)), 5) * float(((p - x) ** 2).mean())
        for a, p, x in zip(alpha_bar, predicted, x0, strict=True)
    ]
    return sum(errors) / len(errors)


def noised(system: Artist | TextModule, x0: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    a = system.schedule.alphas_cumprod.double()[steps].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise.double()


def test_the_text_modules_loss_is_the_weighted_error_of_pictures_of_words(batch: Batch) -> None:
    torch.manual_seed(0)
    system, batch = in_double(text_module(font_share=0.0, training=UNDROPPED), batch)
    drawn = draws(batch)
    with torch.no_grad():
        found = float(system.losses(batch, draws(batch))["loss"])
        words = latents(glyph_images(batch.glyphs))
        steps = (drawn.strata() * 1000).long()
        x_t = noised(system, words, drawn.normal(*words.shape[1:]), steps)
        cond = system.prompt_encoder(batch.prompts)
        predicted = system.unet(
            torch.cat([x_t, words], 1), steps, encoder_hidden_states=cond.tokens, encoder_attention_mask=cond.read_mask
        ).sample
    assert found == pytest.approx(weighted(system, predicted, words, steps), rel=1e-5)
    assert found > 0


def test_the_visual_modules_loss_is_the_weighted_error_of_the_images(batch: Batch) -> None:
    """Written out with hooks: the text module's features of the same step, through the convolutions, are added."""
    system, batch = in_double(artist(text_module(font_share=0.0), opened=True, training=DenoisingSettings(0.3)), batch)
    drawn = draws(batch)
    text = system.text_module
    with torch.no_grad():
        found = float(system.losses(batch, draws(batch))["loss"])
        images, words = latents(batch.images), latents(glyph_images(batch.glyphs))
        steps = (drawn.strata() * 1000).long()
        x_t = noised(system, images, drawn.normal(*images.shape[1:]), steps)
        heard = noised(system, words, drawn.normal(*words.shape[1:]), steps)
        told = text.prompt_encoder(batch.prompts)
        features = run_unet(text.unet, torch.cat([heard, words], 1), steps, told.tokens, told.read_mask).features
        kept = drawn.uniform() >= 0.3
        cond, uncond = system.prompt_encoder(batch.prompts), system.prompt_encoder([""] * len(batch))
        cond = cond.where(kept, uncond)
        for block, conv, feature in zip(
            (system.unet.mid_block, *system.unet.up_blocks), system.bridge.convolutions, features, strict=True
        ):
            addend = conv(feature) * kept.view(-1, 1, 1, 1)
            block.register_forward_hook(lambda _, __, output, addend=addend: output + addend)
        predicted = system.unet(
            x_t, steps, encoder_hidden_states=cond.tokens, encoder_attention_mask=cond.read_mask
        ).sample
    assert 0 < int(kept.sum()) < len(batch)
    assert found == pytest.approx(weighted(system, predicted, images, steps), rel=1e-5)


def test_an_untrained_bridge_leaves_the_visual_module_as_it_is_bit_for_bit(batch: Batch) -> None:
    system = artist()
    x, steps = torch.randn(6, tiny.LATENT, 16, 16), torch.randint(0, 1000, (6,))
    with torch.no_grad():
        cond = system.prompt_encoder(batch.prompts)
        words = latents(glyph_images(batch.glyphs)).float()
        features = system.text_module.run(x, steps, cond, words).features
        plain = system.unet(x, steps, encoder_hidden_states=cond.tokens, encoder_attention_mask=cond.read_mask).sample
        assert torch.equal(system.listen(x, steps, cond, features), plain)
        opened = artist(opened=True)
        assert not torch.equal(opened.listen(x, steps, cond, features), plain)


def test_sampling_denoises_both_modules_side_by_side() -> None:
    """Compare with DDIM's equation (arXiv 2010.02502, Eq. 12) written out for both; the text module is not guided."""
    system = artist(opened=True)
    text, (generator,) = system.text_module, sampling_generators(0, [(PROMPT,)])
    alpha_bar = torch.cat([torch.ones(1), system.schedule.alphas_cumprod]).double()
    picture, words = torch.randn(1, 2 * tiny.LATENT, 16, 16, generator=generator).double().chunk(2, dim=1)
    glyphs = Rasterizer()(LAYOUT, (tiny.SIZE, tiny.SIZE))
    condition = latents(glyph_images(glyphs[None])).float()
    with torch.no_grad():
        told, cond, uncond = text.prompt_encoder([PROMPT]), system.prompt_encoder([PROMPT]), system.prompt_encoder([""])
        for now, before in ((1000, 666), (666, 333), (333, 0)):
            t, a, b = torch.tensor([now - 1]), alpha_bar[now], alpha_bar[before]
            run = text.run(words.float(), t, told, condition)
            heard = system.listen(picture.float(), t, cond, run.features)
            alone = run_unet(system.unet, picture.float(), t, uncond.tokens, uncond.read_mask).output
            guided = (alone + 2.5 * (heard - alone)).double()

            def step(x: Tensor, x0: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
                return b.sqrt() * x0 + (1 - b).sqrt() * (x - a.sqrt() * x0) / (1 - a).sqrt()

            picture, words = step(picture, guided), step(words, run.output.double())
        generated = system.generate([PROMPT], [LAYOUT], SystemSampling(SAMPLER), sampling_generators(0, [(PROMPT,)]))
    expected = torch.nn.functional.pixel_shuffle(picture, 2).clamp(-1, 1)
    torch.testing.assert_close(generated.images.double(), expected, atol=2e-4, rtol=0)
    assert generated.layouts == (LAYOUT,)


def test_targets_are_drawn_in_other_fonts_and_conditions_are_not(batch: Batch) -> None:
    system = text_module(font_share=1.0)
    pictures = system.target_pictures(batch, draws(batch))
    same = glyph_images(batch.glyphs)
    with_words = torch.tensor([len(layout) > 0 for layout in batch.layouts])
    changed = (pictures != same).flatten(1).any(1)
    assert int((changed & with_words).sum()) >= 2  # sans is one of four families, and the rasteriser's own
    assert not bool((changed & ~with_words).any())
    assert torch.equal(text_module(font_share=0.0).target_pictures(batch, draws(batch)), same)
    assert torch.equal(system.batch_hint(batch), system.autoencoder.encode_images(same))


def test_without_dropout_the_caption_and_the_layout_always_act(batch: Batch) -> None:
    system = artist(opened=True)
    images: list[Tensor] = []
    nothing = Layout.empty()
    for prompt, layout in ((PROMPT, LAYOUT), (PROMPT, nothing), ("a green square", LAYOUT)):
        with torch.no_grad():
            generators = sampling_generators(0, [("same",)])
            images.append(system.generate([prompt], [layout], SystemSampling(SAMPLER), generators).images)
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    assert not torch.allclose(images[0], images[2], atol=1e-3)


def refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_parts_that_do_not_fit_are_refused() -> None:
    refused(lambda: text_module(font_share=1.5), r"font_share=1\.5: must lie in \[0, 1\]")
    encoder = tiny.prompt_encoder().text_encoder
    refused(
        lambda: TextModule(encoder, tiny.unet(12), SpaceToDepth(2), tiny.schedule()),
        r"unet\.in_channels is 12; the autoencoder and the text encoder need 24",
    )
    encoder.max_words = 3
    refused(
        lambda: Artist(text_module(), encoder, tiny.unet(tiny.LATENT)),
        r"text_encoder\.max_words is 4 in the text module and 3 in the visual module",
    )
    refused(lambda: BaselineModule(artist(), sampler=ImageSampler(layout_scale=2.0)), r"layout_scale is 2\.0")


def test_the_two_fits_follow_each_other(posters: Path, tmp_path: Path) -> None:
    """All trained weights move in each; the second starts from the first's text module and leaves it as it is."""
    torch.manual_seed(0)
    first = BaselineModule(text_module(layout_generator=tiny.layout_generator()), tiny.FAST)
    check_moves(first, posters, tmp_path / "text.ckpt")
    second = BaselineModule(artist(layout_generator=tiny.layout_generator()), tiny.FAST, SAMPLER)
    parts = ("prompt_encoder", "unet")
    starts = [InitFrom(f"baseline.text_module.{p}", str(tmp_path / "text.ckpt"), f"baseline.{p}") for p in parts]
    check_moves(second, posters, tmp_path / "artist.ckpt", starts)
    for part in parts:
        trained, frozen = (
            m.get_submodule(p) for m, p in ((first, f"baseline.{part}"), (second, f"baseline.text_module.{part}"))
        )
        theirs = trained.state_dict()
        assert all(
            torch.equal(value, theirs[name]) for name, value in frozen.state_dict().items() if isinstance(value, Tensor)
        )
    with torch.no_grad():
        images = second.eval().draw([PROMPT], ["a"]).images
    assert images.shape == (1, 3, tiny.SIZE, tiny.SIZE)


def check_moves(module: BaselineModule, posters: Path, path: Path, callbacks: list[Any] | None = None) -> None:
    trainer = tiny.trainer(3, callbacks=callbacks or [])
    before = {name: weight.clone() for name, weight in module.named_parameters() if weight.requires_grad}
    trainer.fit(module, datamodule=tiny.data(posters))
    now = dict(module.named_parameters())
    assert {name for name, weight in before.items() if torch.equal(weight, now[name])} == set()
    trainer.save_checkpoint(path)
