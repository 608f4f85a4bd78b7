from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.noising import add_noise, draw_timesteps
from vlad_lightning.diffusion.objective import FlowMatching, objective_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.diffusion.solvers import SolverName
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.masks import FRAME, fills_frame
from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.models.autoencoder import build_kl_autoencoder
from vlad_lightning.models.contrastive import info_nce
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.phrase_map import Grounding
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import Batch, Conditioning, GeneratedImages

PLAIN = LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0)


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


def as_loader(*batches: Batch) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def losses(module: VFEModule, batch: Batch) -> dict[str, float]:
    """Return the validation losses of one batch."""
    return dict(tiny.trainer(limit_val_batches=1).validate(module, as_loader(batch), verbose=False)[0])


def test_untrained_stage_over_a_pretrained_unet_is_exactly_that_unet(batch: Batch) -> None:
    torch.manual_seed(0)
    bare = tiny.unet(tiny.LATENT)
    module = tiny.vfe()
    image_generator = tiny.image_generator(tiny.LORA, extra_channels=0)
    image_generator.vfe.unet.load_state_dict(bare.state_dict())
    module = VFEModule(image_generator, tiny.image_encoder(), tiny.layout_generator())
    x_t, steps = torch.randn(6, tiny.LATENT, 16, 16), torch.randint(0, 1000, (6,))
    z = image_generator.encode_layout(glyph_images(batch.glyphs))
    encoder = image_generator.prompt_encoder.text_encoder
    assert encoder.tokenizer is not None
    prompts = [prompt[:60] for prompt in batch.prompts]  # short enough for one window, so not cut
    ids = encoder.tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder.tower(input_ids=ids["input_ids"]).last_hidden_state
        ours = module.image_generator.vfe(x_t, steps, z, image_generator.prompt_encoder(prompts))
        theirs = bare(x_t, steps, encoder_hidden_states=states).sample
    assert torch.equal(ours, theirs)


def test_loss_is_alignment_plus_lambda_times_diffusion(batch: Batch) -> None:
    module = tiny.stage("vfe", training=PLAIN)
    assert isinstance(module, VFEModule)
    found = losses(module, batch)
    assert found["val/loss"] == pytest.approx(found["val/loss_align"] + found["val/loss_diffusion"])
    module.settings = replace(PLAIN, diffusion_weight=0.25)
    weighted = losses(module, batch)
    assert weighted["val/loss_diffusion"] == pytest.approx(found["val/loss_diffusion"])  # without lambda
    assert weighted["val/loss"] == pytest.approx(found["val/loss_align"] + 0.25 * found["val/loss_diffusion"])
    assert module.image_encoder is not None
    with torch.no_grad():
        pairs = module.image_encoder(batch.images), module.image_generator.prompt_encoder(batch.prompts).pooled
    assert found["val/loss_align"] == pytest.approx(float(info_nce(*pairs, 0.07)), rel=1e-5)


def test_without_an_image_encoder_the_loss_has_no_alignment(batch: Batch) -> None:
    module = tiny.stage("vfe", training=PLAIN)
    assert isinstance(module, VFEModule)
    found = losses(module, batch)
    alone = losses(VFEModule(module.image_generator, None, training=PLAIN), batch)
    assert alone["val/loss"] == alone["val/loss_diffusion"] == pytest.approx(found["val/loss_diffusion"])
    assert "val/loss_align" in found
    assert "val/loss_align" not in alone
    with pytest.raises(ValueError, match=r"temperature is 0.1; it has no effect without an image_encoder"):
        VFEModule(module.image_generator, None, temperature=0.1)


def test_diffusion_loss_is_the_weighted_error(batch: Batch) -> None:
    """Compare with the same sum written out, by sample and latent pixel."""
    module = tiny.stage("vfe", training=replace(PLAIN, text_weight=4.0, timestep_shift=1.0))
    assert isinstance(module, VFEModule)
    image_generator = module.image_generator
    generators = SampleGenerators.of_samples("cpu", (0, "vfe", "val"), batch.keys)
    x0 = torch.nn.functional.pixel_unshuffle(batch.images, 2)
    steps = draw_timesteps(generators, 1000, timestep_shift=1.0)
    noised = add_noise(image_generator.schedule, x0, generators.normal(*x0.shape[1:]), steps, 5.0)
    with torch.no_grad():
        conditioning = image_generator.prompt_encoder(batch.prompts)
        predicted = image_generator.vfe(
            noised.x_t, steps, image_generator.encode_layout(glyph_images(batch.glyphs)), conditioning
        )
    place = 1 + 3 * near_letters(batch.glyphs)
    total = 0.0
    for i in range(len(batch)):
        error = ((predicted[i] - x0[i]) ** 2).mean(0)
        total += float(noised.loss_weight[i]) * float((place[i] * error).mean())
    assert losses(module, batch)["val/loss_diffusion"] == pytest.approx(total / len(batch), rel=1e-4)


def test_the_phrase_map_is_trained_to_show_the_content_of_its_boxes(batch: Batch) -> None:
    """Compare with the same sum written out: all but the letters, in the boxes that are kept, objects weighted."""
    settings = replace(PLAIN, text_weight=4.0, object_weight=3.0)
    module, taught = (
        tiny.stage("vfe", training=t, map_channels=tiny.LATENT) for t in (settings, replace(settings, map_weight=0.5))
    )
    batch.object_boxes[:, 0], batch.object_boxes[:, 1] = torch.tensor(FRAME), torch.tensor([0.25, 0.25, 0.5, 0.5, 0.0])
    batch.object_mask[:] = False
    batch.object_mask[0, :2] = batch.object_mask[1, 1] = True
    image_generator = module.image_generator
    with torch.no_grad():
        conditioning = image_generator.prompt_encoder(batch.prompts)
        mask = batch.object_mask & conditioning.object_mask
        drawn = image_generator.vfe.phrase_map(Grounding(conditioning.objects, batch.object_boxes, mask), (16, 16))[
            :, : tiny.LATENT
        ]
    x0 = torch.nn.functional.pixel_unshuffle(batch.images, 2)
    letters = near_letters(batch.glyphs)
    total = 0.0
    for i in range(len(batch)):
        weight = torch.zeros(16, 16)
        weight[:] = float(mask[i, 0])
        weight[:8, :8] = 3.0 if mask[i, 1] else float(mask[i, 0])
        total += float((weight * (1 - letters[i]) * ((drawn[i] - x0[i]) ** 2).mean(0)).mean())
    before, after = (losses(each, batch) for each in (module, taught))
    assert total > 0
    assert after["val/loss_map"] == pytest.approx(total / len(batch), rel=1e-3)
    assert (before["val/loss_map"], after["val/loss_diffusion"]) == (0, before["val/loss_diffusion"])
    assert after["val/loss"] - before["val/loss"] == pytest.approx(0.5 * total / len(batch), rel=1e-3)


@pytest.mark.parametrize("skips", [False, True])
def test_the_map_can_be_trained_without_the_denoising_network(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, skips: bool
) -> None:
    settings = replace(PLAIN, map_weight=1.0, diffusion_weight=0.0)
    module = tiny.stage(
        "vfe",
        lora=None,
        training=settings,
        map_channels=tiny.LATENT,
        freeze_text_tower=False,
        text_probe=0,
        skips=skips,
    )
    batch.object_boxes[:, 0], batch.object_mask[:, 0] = torch.tensor([0.5, 0.5, 0.6, 0.6, 0.0]), True
    image_generator = module.image_generator

    def refused(*_: object) -> None:
        raise AssertionError("the denoising network was evaluated")

    monkeypatch.setattr(type(image_generator.vfe), "forward", refused)
    assert losses(module, batch)["val/loss_diffusion"] == 0
    tiny.trainer().fit(module, DataLoader([batch], batch_size=None))
    unread = {name for name, value in module.named_parameters() if value.requires_grad and value.grad is None}
    assert not unread  # DDP would wait for them
    assert not any(value.requires_grad for value in image_generator.vfe.network.parameters())
    with pytest.raises(ValueError, match=r"training\.diffusion_weight is 0; then only a phrase map is left to train"):
        tiny.stage("vfe", training=replace(PLAIN, diffusion_weight=0.0))


def test_a_phrase_map_too_narrow_for_its_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"map_weight is 1\.0"):
        tiny.stage("vfe", training=LossSettings(map_weight=1.0))


def test_training_shows_the_usual_ground_where_the_layout_is_not_dropped(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as generating with the batch's layouts, and nothing where there is no scene or no layout."""
    image_generator = tiny.image_generator(named_colours=True, usual_grounds=True)
    groundings: list[Grounding] = []
    seen: list[Grounding] = []
    own = type(image_generator).complete_layout

    def complete_layout(self: ImageGenerator, latent: Tensor, grounding: Grounding, *others: Any) -> Tensor:
        seen.append(grounding)
        return own(self, latent, grounding, *others)

    monkeypatch.setattr(type(image_generator), "complete_layout", complete_layout)
    open_ground = torch.arange(6) % 2 == 0
    told_mask = batch.object_mask & ~(open_ground[:, None] & fills_frame(batch.object_boxes))
    known = replace(batch, scene_known=torch.arange(6) < 4, object_mask=told_mask)
    for dropout in (0.0, 1 - 1e-9):
        training = replace(PLAIN, layout_dropout=dropout)
        losses(VFEModule(image_generator, None, tiny.layout_generator(), training=training), known)
        groundings.append(seen[0])  # the others are those of the probe
        seen.clear()
    told, dropped = groundings
    assert told.grounds is not None
    assert dropped.grounds is not None
    assert not dropped.grounds.any()
    with torch.no_grad():
        cond = image_generator.prompt_encoder(batch.prompts)
    usual = image_generator.usual_grounds(
        batch.prompts, batch.layouts, batch.object_boxes, told_mask & cond.object_mask
    )
    assert usual is not None
    assert usual[open_ground, 3].all()
    assert torch.equal(told.grounds[:4], usual[:4])
    assert not told.grounds[4:].any()


def test_objects_that_the_data_do_not_show_get_no_boxes_in_its_test(posters: Path) -> None:
    source = SyntheticSource(samples=20, size=2 * tiny.SIZE)
    module, data = tiny.vfe(), MarioDataModule(None, source=source, size=tiny.SIZE, batch_size=8, max_objects=8)
    tiny.trainer(limit_val_batches=1).validate(module, datamodule=data, verbose=False)
    assert module.layout_generator is not None
    assert module.layout_generator.nouns == SHAPES
    tiny.trainer(limit_val_batches=1).validate(module, datamodule=tiny.data(posters), verbose=False)
    assert module.layout_generator.nouns == ()  # nobody knows what a folder shows
    told = tiny.layout_generator()
    told.nouns = ("circle",)
    module = VFEModule(tiny.image_generator(), None, told)
    tiny.trainer(limit_val_batches=1).validate(module, datamodule=tiny.data(posters), verbose=False)
    assert told.nouns == ("circle",)  # but whoever builds the layout generator


def test_flow_matching_follows_from_the_schedule(batch: Batch) -> None:
    """The loss is the unweighted error of the velocity, at times of the requested density."""
    for density in (None, "uniform"):
        module = tiny.stage("vfe", training=replace(PLAIN, timestep_density=density))
        assert isinstance(module, VFEModule)
        image_generator = module.image_generator
        image_generator.schedule = FlowMatchEulerDiscreteScheduler(shift=2.0)
        generators = SampleGenerators.of_samples("cpu", (0, "vfe", "val"), batch.keys)
        x0 = torch.nn.functional.pixel_unshuffle(batch.images, 2)
        t = FlowMatching(image_generator.schedule, density or "logit_normal").draw_timesteps(generators)
        noise, share = generators.normal(*x0.shape[1:]), (t / 1000).view(-1, 1, 1, 1)
        with torch.no_grad():
            conditioning = image_generator.prompt_encoder(batch.prompts)
            x_t = (1 - share) * x0 + share * noise
            predicted = image_generator.vfe(
                x_t, t, image_generator.encode_layout(glyph_images(batch.glyphs)), conditioning
            )
        expected = float((predicted - (noise - x0)).square().mean())
        assert losses(module, batch)["val/loss_diffusion"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
def test_flow_matching_trains_and_generates(posters: Path, solver: SolverName) -> None:
    module = tiny.stage("vfe", sampler=ImageSampler(steps=2, guidance_scale=2.0, solver=solver))
    assert isinstance(module, VFEModule)
    module.image_generator.schedule = FlowMatchEulerDiscreteScheduler()
    tiny.trainer(2).fit(module, datamodule=tiny.data(posters))
    with torch.no_grad():
        images = module.draw(['a red circle and "HI"'], ["a"]).images
    assert images.shape == (1, 3, tiny.SIZE, tiny.SIZE)
    assert images.isfinite().all()


def test_sampler_that_does_not_fit_the_schedule_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="steps is 1001"):
        tiny.vfe(sampler=ImageSampler(steps=1001))
    with pytest.raises(ValueError, match=r"eta is 0\.5"):
        tiny.vfe(layout_sampler=Sampler(eta=0.5, solver="dpmsolver++"))


def test_an_unused_layout_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layout_sampler is Sampler\(steps=7.*; it is needed with a layout_generator"):
        tiny.vfe(hierarchical=False, layout_sampler=Sampler(steps=7))


def test_projections_that_cannot_be_fused_are_refused_before_training() -> None:
    whole = tiny.image_generator()
    adapted = VFE(whole.vfe.fusion, whole.vfe.unet, lora=Lora(2), phrase_map=whole.vfe.phrase_map)
    image_generator = ImageGenerator(whole.prompt_encoder, adapted, whole.autoencoder, whole.schedule, tiny.SIZE)
    with pytest.raises(ValueError, match="fuse_qkv is True"):
        VFEModule(image_generator, tiny.image_encoder(), sampler=ImageSampler(fuse_qkv=True))


def near_letters(glyphs: Tensor) -> Tensor:
    """Return (B, h, w): 1 where a letter is on or beside one of the 2 x 2 pixels of a latent pixel."""
    ink = glyphs[:, 0] > 0.25 * 255
    found = torch.zeros(len(glyphs), 16, 16)
    for i in range(16):
        for j in range(16):
            rows, columns = slice(max(2 * i - 1, 0), 2 * i + 3), slice(max(2 * j - 1, 0), 2 * j + 3)
            found[:, i, j] = ink[:, rows, columns].flatten(1).any(1)
    return found


@dataclass
class Seen:
    """Records the inputs of an image generator's VFE, call by call."""

    noised: list[Tensor] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)
    layouts: list[Tensor] = field(default_factory=list)
    texts: list[Tensor] = field(default_factory=list)

    def __call__(self, network: torch.nn.Module, args: tuple[Tensor, Tensor, Tensor, Conditioning]) -> None:
        self.noised.append(args[0].detach())
        self.times.append(args[1])
        self.layouts.append(args[2].detach())
        self.texts.append(args[3].tokens.detach())


def watched(training: LossSettings) -> tuple[VFEModule, Seen]:
    module, seen = tiny.stage("vfe", training=training, text_probe=0), Seen()
    assert isinstance(module, VFEModule)
    module.image_generator.vfe.register_forward_pre_hook(seen)
    return module, seen


@pytest.mark.parametrize(("caption", "layout"), [(0.0, 0.0), (0.3, 0.1), (0.0, 0.5)])
def test_the_shares_of_dropped_captions_and_layouts_are_met(batch: Batch, caption: float, layout: float) -> None:
    module, seen = watched(replace(PLAIN, caption_dropout=caption, layout_dropout=layout))
    glyphs = batch.glyphs.clone()
    glyphs[:, :, 0, 0] = 255  # some posters have no words: make every layout nonblank unless dropped
    batch = replace(batch, glyphs=glyphs)
    copies = 60
    # in validation, a sample's draws depend on its name
    renamed = [replace(batch, keys=tuple(f"{key}-{copy}" for key in batch.keys)) for copy in range(copies)]
    tiny.trainer(limit_val_batches=copies).validate(module, as_loader(*renamed), verbose=False)
    with torch.no_grad():
        uncond = module.image_generator.prompt_encoder([""]).tokens
    window = uncond.shape[1]  # these prompts have several windows; the empty one has one
    silent = torch.cat([t[:, :window].isclose(uncond, atol=1e-5).flatten(1).all(1) for t in seen.texts])
    blank = torch.cat([z[:, : tiny.LATENT].eq(-1).flatten(1).all(1) for z in seen.layouts])
    unmapped = torch.cat([z[:, tiny.LATENT :].eq(0).flatten(1).all(1) for z in seen.layouts])
    assert bool(unmapped[blank].all())  # no phrase map either
    tolerance = 4 * (0.25 / len(silent)) ** 0.5
    assert float(blank.float().mean()) == pytest.approx(layout, abs=tolerance if layout else 0)
    assert float(silent.float().mean()) == pytest.approx(caption + layout, abs=tolerance if caption + layout else 0)
    assert bool(silent[blank].all())  # nothing -> layout -> layout and text: no text without a layout


@pytest.mark.parametrize("matching", [False, True], ids=["ddpm", "flow"])
def test_the_forward_process_is_exact_in_mixed_precision(batch: Batch, matching: bool) -> None:
    """The autoencoder's latents are then bfloat16; the forward process on them is in float32."""
    torch.manual_seed(0)
    autoencoder = build_kl_autoencoder((8, 8), 1, latent_channels=tiny.LATENT, norm_num_groups=4)
    image_generator = tiny.flow_image_generator() if matching else tiny.image_generator(tiny.LORA)
    schedule = image_generator.schedule if matching else DDPMScheduler(beta_schedule="scaled_linear")
    image_generator = ImageGenerator(
        image_generator.prompt_encoder, image_generator.vfe, autoencoder, schedule, tiny.SIZE
    )
    module, seen = VFEModule(image_generator, tiny.image_encoder(), training=PLAIN), Seen()
    image_generator.vfe.register_forward_pre_hook(seen)
    tiny.trainer(limit_val_batches=1, precision="bf16-mixed").validate(module, as_loader(batch), verbose=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x0 = autoencoder.encode_images(batch.images)
    assert x0.dtype == torch.bfloat16
    t = seen.times[0].double().view(-1, 1, 1, 1) / 1000
    generators = SampleGenerators.of_samples("cpu", (0, "vfe", "val"), batch.keys)
    objective_for(schedule).draw_timesteps(generators)
    noise = generators.normal(*x0.shape[1:]).double()
    signal, share = 1 - t, t
    if not matching:
        alpha = schedule.alphas_cumprod.double()[seen.times[0]].view(-1, 1, 1, 1)
        signal, share = alpha.sqrt(), (1 - alpha).sqrt()
    assert seen.noised[0].dtype == torch.float32
    torch.testing.assert_close(seen.noised[0].double(), signal * x0.double() + share * noise, rtol=0, atol=1e-5)


def test_augmentation_is_noise_of_that_deviation(batch: Batch) -> None:
    module, seen = watched(replace(PLAIN, augmentation=0.3))
    losses(module, batch)
    noise = seen.layouts[0][:, : tiny.LATENT] - module.image_generator.autoencoder.encode_images(
        glyph_images(batch.glyphs)
    )
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)


def test_timestep_shift_shifts_the_timesteps(batch: Batch) -> None:
    means = []
    for timestep_shift in (0.0, 5.0):
        module, seen = watched(replace(PLAIN, timestep_shift=timestep_shift))
        losses(module, batch)
        means.append(seen.times[0].float().mean().item())
    assert means[1] > means[0] + 150


def parts(module: VFEModule) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.named_parameters()}


@pytest.mark.parametrize("lora", [tiny.LORA, None], ids=["lora", "whole"])
def test_frozen_parts_stay_frozen(posters: Path, lora: Any) -> None:
    module = tiny.stage("vfe", lora=lora)
    assert isinstance(module, VFEModule)
    before = parts(module)
    tiny.trainer(4).fit(module, datamodule=tiny.data(posters))
    moved = {key for key, value in module.named_parameters() if not torch.equal(value, before[key])}
    assert all(key.startswith("image_generator.") for key in moved)
    assert not any(key.startswith("image_generator.autoencoder") for key in moved)
    tower = {key for key in moved if key.startswith("image_generator.prompt_encoder.text_encoder.tower.")}
    assert bool(tower) == (lora is not None)
    assert all("lora_" in key for key in tower)
    trained = ("vfe.unet", "vfe.fusion", "prompt_encoder.composition", "prompt_encoder.text_encoder.character_encoder")
    assert all(any(key.startswith(f"image_generator.{part}") for key in moved) for part in trained)
    assert not module.image_generator.autoencoder.training


@pytest.mark.parametrize(
    "changes", [{"hierarchical": False}, {"ccm": False}], ids=["w/o hierarchical guidance", "w/o CCM"]
)
def test_ablations_train_and_generate(posters: Path, changes: dict[str, Any]) -> None:
    scale = 1.5 if changes.get("hierarchical", True) else 1.0
    module = tiny.stage("vfe", sampler=ImageSampler(steps=2, guidance_scale=2, layout_scale=scale), **changes)
    assert isinstance(module, VFEModule)
    before = parts(module)
    tiny.trainer(2).fit(module, datamodule=tiny.data(posters))  # the learning rate of the first step is zero
    assert any(not torch.equal(value, before[key]) for key, value in module.named_parameters())
    prompts = PromptDataModule(['a red circle and "HI"', "no words"])
    generated = tiny.trainer().predict(module, datamodule=prompts)[0]  # type: ignore[index]
    assert isinstance(generated, GeneratedImages)
    assert generated.images.shape == (2, 3, tiny.SIZE, tiny.SIZE)
    assert generated.images.abs().max() <= 1
    words = [layout.words for layout in generated.layouts]
    assert words == ([(), ()] if "hierarchical" in changes else [("HI",), ()])


def test_test_without_evaluation_measures_nothing(posters: Path) -> None:
    module = tiny.stage("vfe", sampler=ImageSampler(steps=1))
    assert tiny.trainer(limit_test_batches=1).test(module, datamodule=tiny.data(posters), verbose=False) == [{}]


def test_predicting_refuses_too_many_words_before_anything_is_generated() -> None:
    module, seen = watched(PLAIN)
    prompts = PromptDataModule(['"HI"', '"one two" and "three four five"'], batch_size=1)
    with pytest.raises(ValueError, match="asks for 5 words"):
        tiny.trainer().predict(module, datamodule=prompts)
    assert not seen.times


def test_drawing_depends_on_the_sampling_seed_and_the_key() -> None:
    module = tiny.stage("vfe", sampler=ImageSampler(steps=2))
    assert isinstance(module, VFEModule)
    prompts = ['a red circle and "HI"']
    with torch.no_grad():
        first, again = module.draw(prompts, ["a"]), module.draw(prompts, ["a"])
        other = module.draw(prompts, ["b"])
        module.sampling_seed = 1
        reseeded = module.draw(prompts, ["a"])
    assert torch.equal(first.images, again.images)
    assert first.keys == ("a",)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images, reseeded.images)


def test_temperature_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature is 0"):
        tiny.vfe(temperature=0)


def test_the_checkpoint_contains_the_scale_of_its_adapters(posters: Path, tmp_path: Path) -> None:
    trainer = tiny.trainer(1)
    trainer.fit(tiny.stage("vfe"), datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert saved["lora_scales"]["image_generator.prompt_encoder.text_encoder"] == 2.0
    assert json.loads(saved["state_dict"]["image_generator.prompt_encoder.text_encoder._extra_state"])["tokenizer"]
