"""What users of diffusers' pipelines type, on a tiny pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor, nn

from vlad_lightning.diffusion.generators import split_generator
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.layout.frames import into_frame
from vlad_lightning.layout.prompt_parser import PromptDecomposer
from vlad_lightning.models.autoencoder import KLAutoencoder
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.lora_file import save_unet_lora
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADOutput, VLADPipeline
from vlad_lightning.types import Layout

PROMPT = "a red circle and 'HI'"
LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.1]]))


def build(image_generator: Any) -> VLADPipeline:
    """Build a pipeline whose text and layouts have an effect."""
    module = VFEModule(image_generator, tiny.image_encoder(), tiny.layout_generator())
    torch.manual_seed(1)
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    pipe = VLADPipeline.from_module(module)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def shared() -> VLADPipeline:
    torch.manual_seed(0)
    return build(tiny.image_generator())


@pytest.fixture
def pipe(shared: VLADPipeline) -> VLADPipeline:
    own = VLADPipeline(**shared.components, **shared_settings(shared))
    own.set_progress_bar_config(disable=True)
    return own


def shared_settings(pipe: VLADPipeline) -> dict[str, Any]:
    parts = (*pipe.components, "_class_name", "_diffusers_version", "_name_or_path")
    return {name: value for name, value in pipe.config.items() if name not in parts}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(pipe: VLADPipeline, prompt: str | list[str] = PROMPT, **settings: Any) -> Tensor:
    given = {"num_inference_steps": 3, "generator": generator(), "output_type": "pt"} | settings
    images = pipe(prompt, **given).images
    assert isinstance(images, Tensor)
    return images


@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        UniPCMultistepScheduler,
    ],
)
def test_a_scheduler_can_be_replaced(pipe: VLADPipeline, kind: Any) -> None:
    """The latents are those of diffusers' own loop over the same predictions."""
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    start = torch.randn(1, tiny.LATENT, 16, 16, generator=generator(5))
    seen: list[int] = []
    found = draw(
        pipe,
        layouts=LAYOUT,
        guidance_scale=1.0,
        layout_scale=1.0,
        latents=start,
        num_inference_steps=4,
        output_type="latent",
        callback_on_step_end=lambda _, index, timestep, __: seen.append(int(timestep)),
    )
    scheduler = kind.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(4)
    image_generator, x = pipe.image_generator, start * scheduler.init_noise_sigma
    with torch.no_grad():
        glyphs = image_generator.draw_glyphs([LAYOUT]).float().div(127.5).sub(1).expand(-1, 3, -1, -1)
        cond = image_generator.prompt_encoder([PROMPT])
        z = image_generator.encode_layout(glyphs, image_generator.ground([PROMPT], [LAYOUT], cond))
        for t in scheduler.timesteps:
            predicted = image_generator.vfe(scheduler.scale_model_input(x, t), t.expand(1), z, cond)
            x = scheduler.step(predicted, t, x).prev_sample
    assert seen == [int(t) for t in scheduler.timesteps]
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)


def test_a_replaced_scheduler_is_saved_with_the_pipeline(pipe: VLADPipeline, tmp_path: Any) -> None:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    again = VLADPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.scheduler, DPMSolverMultistepScheduler)
    torch.testing.assert_close(draw(again), draw(pipe))


def test_a_scheduler_for_another_prediction_is_refused(pipe: VLADPipeline) -> None:
    own = pipe.scheduler.config.prediction_type
    other = "epsilon" if own != "epsilon" else "sample"
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=other)
    with pytest.raises(ValueError, match=f"scheduler is a DDIMScheduler for '{other}'; the network predicts '{own}'"):
        draw(pipe)
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.register_to_config(prediction_type=own)
    with pytest.raises(ValueError, match=f"scheduler is a PNDMScheduler, which cannot read '{own}'"):
        draw(pipe)
    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ValueError, match="scheduler is a FlowMatchHeunDiscreteScheduler for the velocity"):
        draw(pipe)


def test_a_scheduler_of_flow_matching_can_be_replaced() -> None:
    torch.manual_seed(0)
    pipe = build(tiny.flow_image_generator())
    plain = draw(pipe)
    pipe.scheduler = FlowMatchHeunDiscreteScheduler.from_config(pipe.scheduler.config)
    assert not torch.equal(draw(pipe), plain)


def test_eta_reaches_a_scheduler_that_has_one(pipe: VLADPipeline) -> None:
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    sampler = ImageSampler(steps=3, eta=1.0)
    assert not torch.equal(draw(pipe, sampler=sampler), draw(pipe))
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"eta is 1\.0; it must be 0 for a EulerDiscreteScheduler"):
        draw(pipe, sampler=sampler)


def test_a_negative_prompt_acts_in_the_place_of_the_empty_one(pipe: VLADPipeline) -> None:
    plain = draw(pipe)
    assert torch.equal(draw(pipe, negative_prompt=""), plain)
    negative = draw(pipe, negative_prompt="a blue square")
    assert not torch.allclose(negative, plain, atol=1e-3)
    assert torch.equal(draw(pipe, negative_prompt=["a blue square"]), negative)
    without = {"guidance_scale": 1.0, "layout_scale": 1.0}
    assert torch.equal(draw(pipe, negative_prompt="a blue square", **without), draw(pipe, **without))
    with pytest.raises(ValueError, match="negative_prompt has 1 entries; 2 prompts need one each"):
        draw(pipe, [PROMPT] * 2, negative_prompt=["blurred"])
    with pytest.raises(ValueError, match="negative_prompt is 3; it must be a text"):
        draw(pipe, negative_prompt=3)


def test_several_images_of_a_prompt_are_those_of_their_generators(pipe: VLADPipeline) -> None:
    seeds = [generator(i) for i in range(4)]
    drawn = draw(pipe, [PROMPT, "a blue square"], num_images_per_prompt=2, generator=seeds)
    expected = draw(pipe, [PROMPT] * 2 + ["a blue square"] * 2, generator=[generator(i) for i in range(4)])
    assert torch.equal(drawn, expected)
    given = pipe(PROMPT, [LAYOUT], 2, num_images_per_prompt=3, negative_prompt="dull").layouts
    assert given == [LAYOUT] * 3
    with pytest.raises(ValueError, match="num_images_per_prompt is 0"):
        draw(pipe, num_images_per_prompt=0)


def test_latents_replace_the_first_noise(pipe: VLADPipeline) -> None:
    start = torch.randn(1, tiny.LATENT, 16, 16, generator=generator(7))
    one, other = (draw(pipe, layouts=LAYOUT, latents=start, generator=generator(i)) for i in (1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, draw(pipe, layouts=LAYOUT, latents=-start))
    with pytest.raises(ValueError, match=r"latents has the shape \(1, 3, 8, 8\); it must be"):
        draw(pipe, latents=torch.zeros(1, 3, 8, 8))


def test_output_types_agree(pipe: VLADPipeline) -> None:
    settings: dict[str, Any] = {"num_inference_steps": 2}
    pt = draw(pipe, **settings)
    assert 0 <= pt.min() < pt.max() <= 1
    array = pipe(PROMPT, generator=generator(), output_type="np", **settings).images
    assert isinstance(array, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(array).permute(0, 3, 1, 2), pt)
    latents = draw(pipe, output_type="latent", **settings)
    decoded = pipe.autoencoder.decode_latents(latents).clamp(-1, 1)
    torch.testing.assert_close(decoded / 2 + 0.5, pt)
    (picture,) = pipe(PROMPT, generator=generator(), **settings).images
    assert isinstance(picture, Image.Image)
    images, layouts = pipe(PROMPT, generator=generator(), output_type="pt", return_dict=False, **settings)
    assert torch.equal(images, pt)
    assert layouts[0].words == ("HI",)


def test_a_callback_sees_and_changes_the_latents(pipe: VLADPipeline) -> None:
    seen: list[tuple[int, float]] = []

    def look(owner: VLADPipeline, index: int, timestep: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
        assert owner is pipe
        assert owner.num_timesteps == 3
        seen.append((index, float(given["latents"].std())))
        return {}

    plain = draw(pipe)
    assert torch.equal(draw(pipe, callback_on_step_end=look), plain)
    assert [index for index, _ in seen] == [0, 1, 2]
    blank = draw(
        pipe, output_type="latent", callback_on_step_end=lambda *a: {"latents": torch.zeros_like(a[3]["latents"])}
    )
    assert not blank.any()
    with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs has 'prompt_embeds'"):
        draw(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=["prompt_embeds"])


def test_a_callback_ends_the_generation(pipe: VLADPipeline) -> None:
    seen: list[int] = []

    def stop(owner: VLADPipeline, index: int, timestep: Tensor, given: dict[str, Tensor]) -> None:
        seen.append(index)
        owner._interrupt = index == 1

    stopped = draw(pipe, callback_on_step_end=stop)
    assert seen == [0, 1]
    assert pipe.interrupt
    assert not torch.equal(stopped, draw(pipe))
    assert not pipe.interrupt  # the next call starts anew


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": []}, r"prompt is \[\]; it must be a text, or a list of at least one"),
        ({"prompt": None}, "prompt is None; it must be a text"),
        ({"prompt": 3}, "prompt is 3; it must be a text"),
        ({"prompt": ["a", None]}, "prompt is None; it must be a text"),
        ({"num_inference_steps": 2.5}, r"num_inference_steps is 2\.5; it must be a whole number"),
        ({"height": 0}, "height is 0; it must be a whole number from 2 to 4,096"),
        ({"width": 31}, "width is 31; it must be a multiple of 2"),
        ({"width": 4096, "height": 4096, "num_images_per_prompt": 100}, "images of 4096 x 4096 pixels"),
        ({"output_type": "tensor"}, "output_type is 'tensor'; allowed are 'pil', 'np', 'pt', 'latent'"),
    ],
)
def test_wrong_arguments_are_named(pipe: VLADPipeline, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(pipe, **{"prompt": PROMPT} | settings)


def test_the_own_size_can_be_given(pipe: VLADPipeline) -> None:
    assert torch.equal(draw(pipe, height=tiny.SIZE, width=tiny.SIZE), draw(pipe))


def test_another_size_has_layouts_of_its_proportions(pipe: VLADPipeline) -> None:
    def drawn(**size: int) -> VLADOutput:
        return pipe([PROMPT], num_inference_steps=2, generator=torch.Generator().manual_seed(0), **size)

    own, wide = drawn(), drawn(height=32, width=64)
    assert wide.images[0].size == (64, 32)
    (square,), (placed,) = own.layouts, wide.layouts
    groups = PromptDecomposer()(PROMPT).groups
    expected = into_frame(square, groups, (32, 64))
    assert torch.equal(placed.boxes, expected.boxes)
    assert torch.equal(placed.object_boxes, expected.object_boxes)
    assert not torch.equal(placed.boxes, square.boxes)


Slots = list[tuple[dict[str, Any], str, Tensor]]


def slots(part: nn.Module) -> Slots:
    """Return where each weight and buffer of a part is kept, and its value."""
    return [
        (kept, name, value)
        for module in part.modules()
        for kept in (module._parameters, module._buffers)
        for name, value in kept.items()
        if value is not None
    ]


class Offloaded(Controls):
    """Controls under which the weights of a part exist within its context only; outside they are on ``meta``."""

    kept: dict[nn.Module, Slots]

    @contextmanager
    def resident(self, *parts: nn.Module) -> Iterator[None]:
        for part in parts:
            for kept, name, value in self.kept[part]:
                kept[name] = value
        yield
        for part in parts:
            for kept, name, value in self.kept[part]:
                gone = torch.empty_like(value, device="meta")
                kept[name] = nn.Parameter(gone, requires_grad=False) if isinstance(value, nn.Parameter) else gone


def test_no_part_is_used_while_it_is_offloaded(pipe: VLADPipeline) -> None:
    """Weights on the meta device would make the images tensors without values, or an error."""
    system, sampling = pipe.system, SystemSampling(ImageSampler(2, guidance_scale=2.0, layout_scale=2.0))
    prompts = [PROMPT, "a blue square"]

    def images(controls: Controls) -> Tensor:
        with torch.no_grad():
            return system.generate(prompts, None, sampling, split_generator(generator(), 2), None, controls).images

    expected = images(Controls())
    image_generator, layouts = system.image_generator, system.layout_generator
    assert layouts is not None
    parts = (layouts, image_generator.prompt_encoder, image_generator.vfe, image_generator.autoencoder)
    controls = Offloaded(device=torch.device("cpu"))
    object.__setattr__(controls, "kept", {part: slots(part) for part in parts})  # the class is frozen
    with controls.resident(*parts):
        pass
    try:
        assert all(weight.is_meta for part in parts for weight in part.parameters())
        assert torch.equal(images(controls), expected)
    finally:
        for part in parts:
            for kept, name, value in controls.kept[part]:
                kept[name] = value


def test_offloading_keeps_the_parts_on_the_cpu_between_calls(pipe: VLADPipeline) -> None:
    plain = draw(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(draw(pipe), plain)
    with pytest.raises(ValueError, match="gpu_id is 1 and device is 'cuda:0'; give the number once"):
        pipe.enable_model_cpu_offload(1, "cuda:0")
    if not torch.accelerator.is_available():
        with pytest.raises(ValueError, match="enable_model_cpu_offload needs an accelerator, and torch finds none"):
            pipe.enable_model_cpu_offload()


def test_tiling_and_slicing_are_those_of_the_autoencoder(pipe: VLADPipeline) -> None:
    with pytest.raises(ValueError, match=r"autoencoder is a SpaceToDepth, which has no enable_tiling\(\)"):
        pipe.enable_vae_tiling()
    with pytest.raises(ValueError, match=r"autoencoder is a SpaceToDepth, which has no enable_slicing\(\)"):
        pipe.enable_vae_slicing()
    pipe.autoencoder = KLAutoencoder(block_out_channels=(8,), norm_num_groups=4)
    for enabled in (True, False):
        pipe.enable_vae_tiling(enabled)
        pipe.enable_vae_slicing(enabled)
        assert (pipe.autoencoder.use_tiling, pipe.autoencoder.use_slicing) == (enabled, enabled)


def test_adapters_of_the_unet_are_loaded_and_unloaded(tmp_path: Path) -> None:
    """With its adapters loaded, a pipeline of the plain weights generates what the one with folded weights does."""
    own = tiny.image_generator()
    adapted = VFE(own.vfe.fusion, own.vfe.unet, lora=Lora(2), phrase_map=own.vfe.phrase_map)
    image_generator = ImageGenerator(own.prompt_encoder, adapted, own.autoencoder, own.schedule, own.image_size)
    module = VFEModule(image_generator, tiny.image_encoder(), tiny.layout_generator())
    torch.manual_seed(2)
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    plain = VLADPipeline.from_module(module)
    for name, value in module.image_generator.vfe.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.5)
    folded = VLADPipeline.from_module(module)
    save_unet_lora(module.image_generator.vfe, tmp_path)
    for pipe in (plain, folded):
        pipe.set_progress_bar_config(disable=True)
    before = draw(plain)
    plain.load_lora_weights(tmp_path)
    torch.testing.assert_close(draw(plain), draw(folded), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(draw(plain), before, atol=1e-3)
    plain.unload_lora_weights()
    torch.testing.assert_close(draw(plain), before)


def test_a_transformer_takes_no_adapters_of_a_unet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load_lora_weights reads adapters of a UNet only"):
        build(tiny.flow_image_generator()).load_lora_weights(tmp_path)
