from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_baselines
import tiny_system as tiny
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel

from vlad_lightning.baselines.denoising import DenoisingSettings
from vlad_lightning.baselines.textdiffuser import TextDiffuser
from vlad_lightning.baselines.textdiffuser_augmentation import SegmentationAugmentation
from vlad_lightning.baselines.textdiffuser_characters import character_maps
from vlad_lightning.baselines.textdiffuser_features import SegmentationFeatures
from vlad_lightning.baselines.textdiffuser_layout import LayoutTransformer
from vlad_lightning.baselines.textdiffuser_layout_generator import WordLayoutGenerator
from vlad_lightning.baselines.textdiffuser_module import TextDiffuserModule
from vlad_lightning.baselines.textdiffuser_segmenter import CharacterSegmenter
from vlad_lightning.callbacks import InitFrom
from vlad_lightning.data.charseg_data import CharsegBatch, CharsegDataModule
from vlad_lightning.diffusion.generators import SampleGenerators, sampling_generators
from vlad_lightning.diffusion.noising import add_noise, draw_timesteps
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.types import Batch, Layout

PROMPTS = ['a red circle and "HI"', 'a green square and "SALE 50"']
PLAIN = DenoisingSettings(caption_dropout=0)
UNCHANGED = SegmentationAugmentation(dilated=0, eroded=0, dropped=0)


def segmenter() -> CharacterSegmenter:
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(
        in_channels=12, out_channels=96, block_out_channels=(16,), layers_per_block=1, norm_num_groups=8, **blocks
    )
    return CharacterSegmenter(SpaceToDepth(2), unet)


def textdiffuser(seed: int = 0, opened: bool = False, **changes: Any) -> TextDiffuser:
    """Build a system; ``opened``, its added columns are not zero."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "text_encoder": tiny.prompt_encoder().text_encoder,
        "unet": tiny.unet(tiny.LATENT),
        "autoencoder": SpaceToDepth(2),
        "schedule": tiny.schedule(),
        "segmenter": segmenter(),
        "word_layouts": WordLayoutGenerator(
            tiny.prompt_encoder(), LayoutTransformer(tiny.WIDTH, 4, width=32, heads=2, layers=1, bins=64)
        ),
        "image_size": tiny.SIZE,
    }
    system = TextDiffuser(**parts | changes)
    if opened:
        torch.nn.init.normal_(system.unet.conv_in.further, std=0.1)
    return system


def data(root: Path, **changes: Any) -> CharsegDataModule:
    settings: dict[str, Any] = {"size": tiny.SIZE, "batch_size": 6, "max_objects": 8}
    return CharsegDataModule(str(root), **settings | {"val_share": 0.3, "test_share": 0.2} | changes)


@pytest.fixture(scope="module")
def batch(lettered_posters: Path) -> CharsegBatch:
    batch = next(iter(data(lettered_posters).val_dataloader()))
    assert isinstance(batch, CharsegBatch)
    assert sum(len(layout) > 0 for layout in batch.layouts) > 3
    return batch


def drawn(batch: CharsegBatch) -> SampleGenerators:
    return SampleGenerators.of_samples("cpu", (0, "t"), batch.keys)


def test_it_starts_as_the_unet_without_its_additions_bit_for_bit(batch: CharsegBatch) -> None:
    system, bare = textdiffuser(), tiny_baselines.stable_diffusion()
    x_t, steps = torch.randn(2, 12, 16, 16), torch.tensor([3, 900])
    layouts = [layout for layout in batch.layouts if len(layout)][:2]
    with torch.no_grad():
        hint, cond = system.layout_hint(layouts), system.prompt_encoder(PROMPTS)
        assert hint.shape == (2, 1 + 12 + 8, 16, 16)
        assert hint[:, 13:].abs().sum() > 0
        expected = bare.predict(x_t, steps, cond, None)
        assert torch.equal(system.predict(x_t, steps, cond, hint), expected)
        opened = textdiffuser(opened=True)
        assert not torch.allclose(opened.predict(x_t, steps, cond, opened.layout_hint(layouts)), expected)


def test_it_can_start_from_a_trained_stable_diffusion(tmp_path: Path, lettered_posters: Path) -> None:
    start = tiny_baselines.module(tiny_baselines.stable_diffusion(7))
    trainer = tiny.trainer(0)
    trainer.fit(start, datamodule=data(lettered_posters))
    trainer.save_checkpoint(tmp_path / "sd.ckpt")
    module = TextDiffuserModule(textdiffuser(), tiny.FAST, sampler=tiny_baselines.SAMPLER)
    tiny.trainer(0, callbacks=[InitFrom("baseline.unet", str(tmp_path / "sd.ckpt"))]).fit(
        module, datamodule=data(lettered_posters)
    )
    own, given = module.baseline.state_dict(), start.baseline.state_dict()
    assert torch.equal(own["unet.conv_in.weight"], given["unet.conv_in.weight"])
    assert torch.equal(own["unet.mid_block.resnets.0.conv1.weight"], given["unet.mid_block.resnets.0.conv1.weight"])
    assert not own["unet.conv_in.further"].any()


def test_the_loss_is_the_error_and_a_hundredth_of_the_cross_entropy(batch: CharsegBatch) -> None:
    """Compare with the sums written out in float64, from the network's prediction on."""
    region = Masking(share=1.0, word_share=1.0, margin=0.0)
    system = textdiffuser(opened=True, training=PLAIN, augmentation=UNCHANGED, masking=region)
    found = system.losses(batch, drawn(batch))
    generators = drawn(batch)
    x0 = F.pixel_unshuffle(batch.images, 2)
    steps = draw_timesteps(generators, 1000)
    noised = add_noise(system.schedule, x0, generators.normal(*x0.shape[1:]), steps, 5.0)
    generators.uniform()  # which captions are dropped: none
    masks = region.draw(batch.layouts, (tiny.SIZE, tiny.SIZE), generators)
    assert not masks.all()
    characters = character_maps(batch.layouts, batch.glyphs)
    with torch.no_grad():
        inputs = [
            noised.x_t,
            F.max_pool2d(masks.float(), 2),
            F.pixel_unshuffle(batch.images * ~masks, 2),
            system.features(torch.where(masks[:, 0], characters, 0)),
        ]
        states = system.prompt_encoder(batch.prompts)
        predicted = system.unet(
            torch.cat(inputs, dim=1), steps, states.tokens, encoder_attention_mask=states.read_mask
        ).sample
        logits = system.segmenter.unet(predicted, 0).sample.double()  # type: ignore[union-attr]
    error = ((predicted - x0).double() ** 2).mean(dim=(1, 2, 3))
    diffusion = float((noised.loss_weight * error).mean())
    truth = F.max_pool2d(batch.charseg.float(), 2).long()
    assert (truth > 0).any()
    chances = logits.softmax(dim=1)
    entropies = [-float(chances[b, truth[b, y, x], y, x].log()) for b, y, x in np.ndindex(6, 16, 16)]
    assert found["loss_diffusion"].item() == pytest.approx(diffusion, rel=1e-5)
    assert found["loss_character"].item() == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found["loss"].item() == pytest.approx(diffusion + 0.01 * np.mean(entropies), rel=1e-5)


def test_the_frozen_segmenter_passes_its_gradient_on(batch: CharsegBatch) -> None:
    system = textdiffuser(training=PLAIN)
    system.losses(batch, drawn(batch))["loss_character"].backward()
    assert system.unet.conv_in.further.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in system.segmenter.parameters())  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="segmenter is missing"):
        textdiffuser(segmenter=None).losses(batch, drawn(batch))
    without_maps = Batch(**{name: value for name, value in vars(batch).items() if name != "charseg"})
    with pytest.raises(ValueError, match="charseg of the batch is missing"):
        system.losses(without_maps, drawn(batch))


def test_an_image_follows_its_layout_and_depends_on_its_own_row_alone() -> None:
    system = textdiffuser(opened=True).eval()
    settings = SystemSampling(ImageSampler(steps=3, guidance_scale=2.0))
    given = [Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.3, 0.0]])), None]
    names = [("a",), ("b",)]
    with torch.no_grad():
        both = system.generate(PROMPTS, given, settings, sampling_generators(0, names))
        second = system.generate(PROMPTS[1:], None, settings, sampling_generators(0, names[1:]))
        moved = [Layout(("HI",), torch.tensor([[0.5, 0.2, 0.8, 0.3, 0.0]]))]
        other = system.generate(PROMPTS[:1], moved, settings, sampling_generators(0, names[:1]))
    assert torch.allclose(both.images[1], second.images[0], atol=1e-5)
    assert not torch.allclose(both.images[0], other.images[0], atol=1e-3)
    assert both.layouts[0] is given[0]
    assert both.layouts[1].words == ("SALE", "50")
    expected = system.word_layouts.sample(PROMPTS[1:])[0]  # type: ignore[union-attr]
    assert torch.equal(both.layouts[1].boxes, expected.boxes)
    with torch.no_grad():
        alone = textdiffuser(word_layouts=None).generate(PROMPTS, None, settings, sampling_generators(0, names))
    assert [layout.words for layout in alone.layouts] == [(), ()]


def test_guidance_drops_the_text_and_keeps_the_segmentation() -> None:
    system = textdiffuser(opened=True).eval()
    unguided = ImageSampler(steps=2, guidance_scale=0.0)  # the branch without text alone
    layouts = [Layout(("HI",), torch.tensor([[0.5, y, 0.8, 0.3, 0.0]])) for y in (0.3, 0.7)]

    def sample(prompt: str, layout: Layout) -> torch.Tensor:
        with torch.no_grad():
            return system.sample([prompt], [layout], unguided, sampling_generators(0, [("a",)]))

    first = sample(PROMPTS[0], layouts[0])
    assert torch.equal(first, sample(PROMPTS[1], layouts[0]))
    assert not torch.allclose(first, sample(PROMPTS[0], layouts[1]), atol=1e-3)


def test_features_halve_as_often_as_they_have_widths() -> None:
    characters = torch.randint(0, 96, (2, 32, 32))
    assert SegmentationFeatures(96)(characters).shape == (2, 8, 16, 16)
    published = SegmentationFeatures(128, widths=(32, 64), batch_norm=True)
    assert published(characters).shape == (2, 8, 8, 8)
    twice = SegmentationFeatures(96, widths=(16, 16))
    with pytest.raises(ValueError, match=r"segmentation_size is 32 and features\.widths halves 2 times; .* 16"):
        textdiffuser(features=twice)
    fine = textdiffuser(features=twice, segmentation_size=64)
    assert fine.layout_hint([Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.3, 0.0]]))]).shape == (1, 21, 16, 16)
    with pytest.raises(ValueError, match="character_weight is -1"):
        textdiffuser(character_weight=-1)


def test_a_resumed_fit_equals_the_undisturbed_one(lettered_posters: Path, posters: Path, tmp_path: Path) -> None:
    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> Any:
        trainer = tiny.trainer(steps)
        module = TextDiffuserModule(textdiffuser(seed), tiny.FAST, sampler=tiny_baselines.SAMPLER)
        trainer.fit(module, datamodule=data(lettered_posters), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    _, expected = fit(3, seed=0)
    stopped, _ = fit(2, seed=0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(3, seed=1, ckpt_path=tmp_path / "stopped.ckpt")
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[key]) for key, value in expected.named_parameters())
    start = dict(textdiffuser(0).named_parameters())
    moved = {k for k, value in expected.baseline.named_parameters() if not torch.equal(value, start[k])}
    assert any(k.startswith("features.") for k in moved)
    assert "unet.conv_in.further" in moved
    assert not any(k.startswith(("segmenter.", "word_layouts.", "prompt_encoder.")) for k in moved)


def test_settings_that_do_not_fit_are_refused(posters: Path, lettered_posters: Path) -> None:
    def module(**changes: Any) -> TextDiffuserModule:
        return TextDiffuserModule(textdiffuser(**changes), tiny.FAST, sampler=tiny_baselines.SAMPLER)

    with pytest.raises(ValueError, match="data is a MarioDataModule; characters are learned with class_path"):
        tiny.trainer().fit(module(), datamodule=tiny.data(posters))
    with pytest.raises(ValueError, match=r"model\.baseline\.segmenter is null; training needs"):
        tiny.trainer().fit(module(segmenter=None), datamodule=data(lettered_posters))
