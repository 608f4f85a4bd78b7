from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch.utils.data import DataLoader

from vlad_lightning.diffusion.generators import SampleGenerators, generator_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation import LayoutGenerator
from vlad_lightning.models.tlg import TLG, encode_boxes
from vlad_lightning.modules import TLGModule
from vlad_lightning.types import Batch


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


@pytest.mark.parametrize("scene", ["known", "unknown"])
def test_the_loss_is_over_the_known_boxes(batch: Batch, scene: str) -> None:
    module = tiny.stage("tlg")
    assert isinstance(module, TLGModule)
    batch = replace(batch, scene_known=torch.full_like(batch.scene_known, scene == "known"))
    if scene == "unknown":
        batch = replace(batch, object_mask=torch.zeros_like(batch.object_mask))
    loader = DataLoader([batch], batch_size=None)  # type: ignore[arg-type, var-annotated]
    found = tiny.trainer(limit_val_batches=1).validate(module, loader, verbose=False)[0]["val/loss"]
    tokens, _, unknown = module.generator.tokens_of(batch)
    steps, noised = module.generator.noised(tokens, SampleGenerators.of_samples("cpu", (0, "tlg", "val"), batch.keys))
    with torch.no_grad():
        conditioning = module.generator.prompt_encoder(batch.prompts)
        predicted = module.generator.tlg(noised.x_t, steps, conditioning, unknown)
    total, numbers, words = 0.0, 0, batch.word_mask.shape[1]
    boxes = torch.cat([batch.word_boxes, batch.object_boxes], dim=1)
    for i, n in torch.cat([batch.word_mask, batch.object_mask], dim=1).nonzero().tolist():
        truth = encode_boxes(boxes[i, n], torch.tensor(True))[:5]
        total += float(noised.loss_weight[i] * (predicted[i, n, :5] - truth).square().sum())
        numbers += 5
    if scene == "known":  # whether each of the other phrases has a box
        for i, n in conditioning.object_mask.nonzero().tolist():
            bit = 1.0 if batch.object_mask[i, n] else -1.0
            total += float(noised.loss_weight[i] * (predicted[i, words + n, 5] - bit).square())
            numbers += 1
    assert numbers > 5
    assert found == pytest.approx(total / numbers, rel=1e-4)


def test_layouts_are_learned_and_drawn_by_flow_matching(posters: Path) -> None:
    generator = LayoutGenerator(
        tiny.prompt_encoder(),
        TLG(32, max_words=4, width=32, layers=1, heads=2, max_objects=8),
        FlowMatchEulerDiscreteScheduler(),
    )
    module = TLGModule(generator, tiny.FAST, Sampler(steps=2))
    tokens = torch.rand(4, 2, 6, generator=generator_for("cpu", 0))
    steps, noised = generator.noised(tokens, SampleGenerators.of_rows("cpu", (1,), range(4), 4))
    assert steps.is_floating_point()
    share = (steps / 1000).view(-1, 1, 1)  # x_t = x0 + t (noise - x0)
    torch.testing.assert_close(noised.x_t - share * noised.target, tokens, rtol=1e-4, atol=1e-5)
    tiny.trainer(2, limit_val_batches=1).fit(module, datamodule=tiny.data(posters))
    layout = module.draw(['a circle and "HI"'])[0]
    assert layout.words == ("HI",)
    assert layout.boxes.isfinite().all()


def test_the_tower_is_frozen_and_the_composition_learns(posters: Path) -> None:
    module = tiny.stage("tlg")
    before = {key: value.detach().clone() for key, value in module.named_parameters()}
    tiny.trainer(3).fit(module, datamodule=tiny.data(posters))
    moved = {key for key, value in module.named_parameters() if not torch.equal(value, before[key])}
    assert not any(".tower." in key for key in moved)
    for part in (
        "generator.tlg.",
        "generator.prompt_encoder.composition.",
        "generator.prompt_encoder.text_encoder.character_encoder.",
    ):
        assert any(key.startswith(part) for key in moved), part


def test_validation_measures_the_drawn_layouts(posters: Path) -> None:
    module = tiny.stage("tlg", sampler=Sampler(steps=2))
    assert isinstance(module, TLGModule)
    found = tiny.trainer(limit_val_batches=2).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert {"val/loss", "val/iou", "val/overlap", "val/out_of_bounds"} <= set(found)
    assert module.results["iou"].value == pytest.approx(found["val/iou"])
    again = tiny.trainer(limit_val_batches=2).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert again == found  # nothing is kept from the first validation


def test_layouts_have_the_prompts_words_in_order() -> None:
    module = tiny.stage("tlg", sampler=Sampler(steps=2))
    assert isinstance(module, TLGModule)
    with torch.no_grad():
        layouts = module.draw(['"ONE" above "two three"', "nothing to draw"], ["k"])
    assert [layout.words for layout in layouts] == [("ONE", "two", "three"), ()]
    assert (layouts[0].boxes[:, 2:4] > 0).all()
    assert layouts[0].boxes.dtype == torch.float32


def test_a_layout_does_not_depend_on_unused_word_slots(batch: Batch) -> None:
    """The slots after the last word are masked: other noise there changes nothing."""
    generator = tiny.layout_generator().eval()
    conditioning = generator.prompt_encoder(['"ONE" and "two"'])
    x, steps = torch.randn(1, 12, 6), torch.tensor([500])
    changed = x.clone()
    changed[:, 2:4] += 1
    with torch.no_grad():
        first, second = (generator.tlg(noise, steps, conditioning)[:, :2] for noise in (x, changed))
    torch.testing.assert_close(first, second)


def test_more_words_than_a_layout_holds_are_refused_by_a_check_and_left_out_of_a_sample() -> None:
    generator, prompts = tiny.layout_generator(), ['"a b c d e"']
    with pytest.raises(ValueError, match="asks for 5 words"):
        generator.check(prompts)
    with torch.no_grad():
        layouts = generator.sample(prompts, Sampler(steps=1), [torch.Generator()] * len(prompts))
    assert layouts[0].words == ("a", "b", "c", "d")


def test_generator_refuses_parts_that_do_not_fit() -> None:
    encoder = tiny.prompt_encoder()
    with pytest.raises(ValueError, match=r"tlg\.text_width is 16"):
        LayoutGenerator(encoder, TLG(16, max_words=4), tiny.schedule())
    with pytest.raises(ValueError, match=r"tlg\.max_words is 8"):
        LayoutGenerator(encoder, TLG(32, max_words=8), tiny.schedule())
    with pytest.raises(ValueError, match=r"tlg\.max_objects is 3"):
        LayoutGenerator(encoder, TLG(32, max_words=4, max_objects=3), tiny.schedule())


def test_epsilon_without_a_signal_at_the_end_is_refused() -> None:
    schedule = DDPMScheduler(prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(ValueError, match="a zero terminal SNR needs 'v_prediction' or 'sample'"):
        LayoutGenerator(tiny.prompt_encoder(), TLG(32, max_words=4), schedule)


@pytest.mark.parametrize("scene", [True, False])
def test_objects_are_placed_only_after_training_on_object_boxes(posters: Path, scene: bool, tmp_path: Path) -> None:
    folder = posters
    if not scene:  # MARIO's folders have no scene.json
        folder = tmp_path / "plain"
        shutil.copytree(posters, folder, ignore=shutil.ignore_patterns("scene.json"))
    module = tiny.stage("tlg", sampler=Sampler(steps=2))
    assert isinstance(module, TLGModule)
    prompts = ['a red circle and a blue star, with "HI" at the top']
    assert module.draw(prompts)[0].objects == ()
    tiny.trainer(2).fit(module, datamodule=tiny.data(folder))
    module.generator.tlg.box_out.bias.data[5] += 100  # whatever it learned: every phrase now has a box
    layout = module.draw(prompts)[0]
    assert layout.words == ("HI",)
    assert bool(layout.objects) == scene
    assert bool(module.generator.tlg.taught_objects) == scene
