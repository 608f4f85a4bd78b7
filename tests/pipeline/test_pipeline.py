from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlad_lightning.diffusion.generators import numbered, sampling_generators, split_generator
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.typesetting import typeset
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pretrained import shipped
from vlad_lightning.types import Layout

PROMPT = "a red circle and 'HI'"
LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.1]]))


def random_module(hierarchical: bool = True) -> VFEModule:
    """Build a stage 2 with random instead of zero weights in adapters, the CCM's output layers and fusion."""
    module = tiny.stage("vfe", hierarchical=hierarchical)
    assert isinstance(module, VFEModule)
    for name, value in module.named_parameters():
        if "lora_B" in name or name.endswith(("to_pooled.weight", "read.out_proj.weight", "fusion.weight")):
            torch.nn.init.normal_(value, std=0.3)
    return module


@dataclass
class Saved:
    module: VFEModule
    pipe: VLADPipeline
    folder: Path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    module = random_module()
    pipe = VLADPipeline.from_module(module)
    pipe.set_progress_bar_config(disable=True)
    folder = tmp_path_factory.mktemp("pipeline") / "saved"
    pipe.save_pretrained(folder)
    return Saved(module, pipe, folder)


def tensor(value: object) -> Tensor:
    """Return the images of ``output_type="pt"``."""
    assert isinstance(value, Tensor)
    return value


@pytest.fixture(autouse=True)
def kernels_of_a_new_process() -> Iterator[None]:
    """Reset the attention kernel, which an earlier command in this process may have changed (``cli.fit.build``)."""
    chosen = torch.backends.cuda.flash_sdp_enabled()
    torch.backends.cuda.enable_flash_sdp(True)
    yield
    torch.backends.cuda.enable_flash_sdp(chosen)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def load(folder: Path) -> VLADPipeline:
    pipe = VLADPipeline.from_pretrained(folder)
    assert isinstance(pipe, VLADPipeline)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_saved_and_loaded_it_generates_the_same_bit_for_bit(saved: Saved) -> None:
    prompts = [PROMPT, "a blue square"]
    first = saved.pipe(prompts, num_inference_steps=3, generator=generator(), output_type="pt")
    second = load(saved.folder)(prompts, num_inference_steps=3, generator=generator(), output_type="pt")
    assert torch.equal(tensor(first.images), tensor(second.images))
    assert [layout.words for layout in second.layouts] == [("HI",), ()]
    for one, other in zip(first.layouts, second.layouts, strict=True):
        assert torch.equal(one.boxes, other.boxes)
    third = saved.pipe(prompts, num_inference_steps=3, generator=generator(1), output_type="pt")
    assert not torch.equal(tensor(first.images), tensor(third.images))


def test_the_shipped_model_opens_by_its_name(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="'vlad-mini' is the name of weights that ship with vlad-lightning"):
        VLADPipeline.from_pretrained("vlad-mini")
    shutil.copytree(saved.folder, tmp_path / "vlad-mini")
    pipe = VLADPipeline.from_pretrained("vlad-mini")
    first, second = (
        p(PROMPT, num_inference_steps=2, generator=generator(), output_type="pt") for p in (saved.pipe, pipe)
    )
    assert torch.equal(tensor(first.images), tensor(second.images))


def test_adapters_are_folded_in(saved: Saved) -> None:
    sampler = ImageSampler(steps=3, guidance_scale=2.0)
    with torch.no_grad():
        expected = saved.module.image_generator.generate(
            [PROMPT], [LAYOUT], sampler, split_generator(generator(), 1)
        ).images
    found = saved.pipe(PROMPT, LAYOUT, 3, 2.0, 1.0, generator=generator(), output_type="pt").images
    torch.testing.assert_close(found, expected / 2 + 0.5, atol=1e-4, rtol=1e-3)
    assert not [key for key in saved.pipe.text_encoder.state_dict() if "lora" in key]
    assert any("lora" in key for key in saved.module.state_dict())  # the module keeps its adapters


def test_the_folder_has_safetensors_json_and_one_import(saved: Saved) -> None:
    suffixes = {path.suffix for path in saved.folder.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".py"}
    assert [path.name for path in saved.folder.rglob("*.py")] == ["pipeline.py"]
    assert (saved.folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()


def test_given_layouts_are_drawn_unchanged(saved: Saved) -> None:
    drawn = saved.pipe([PROMPT, PROMPT], [LAYOUT, Layout.empty()], 2, generator=generator())
    assert drawn.layouts[0] is LAYOUT
    assert len(drawn.layouts[1]) == 0
    assert [image.size for image in drawn.images] == [(tiny.SIZE, tiny.SIZE)] * 2
    one = saved.pipe(PROMPT, LAYOUT, 2, generator=generator(), output_type="pt").images
    other = saved.pipe(PROMPT, Layout.empty(), 2, generator=generator(), output_type="pt").images
    assert not torch.equal(tensor(one), tensor(other))


def test_pictures_are_the_tensors_rounded(saved: Saved) -> None:
    exact = saved.pipe(PROMPT, LAYOUT, 2, generator=generator(), output_type="pt").images[0]
    picture = saved.pipe(PROMPT, LAYOUT, 2, generator=generator()).images[0]
    assert isinstance(picture, Image.Image)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(tiny.SIZE, tiny.SIZE, 3)
    assert (tensor(exact).permute(1, 2, 0) * 255 - pixels).abs().max() <= 0.5001


def test_scales_and_steps_take_effect(saved: Saved) -> None:
    def draw(
        steps: int = 3, text: float = 2.0, layout: float = 1.0, sampler: ImageSampler = ImageSampler()
    ) -> torch.Tensor:
        return tensor(saved.pipe(PROMPT, LAYOUT, steps, text, layout, sampler, generator(), "pt").images)

    base = draw()
    assert torch.equal(base, draw())
    changed = [
        draw(steps=4),
        draw(text=4.0),
        draw(layout=2.0),
        draw(sampler=ImageSampler(eta=1.0)),
        draw(sampler=ImageSampler(augmentation=1.0)),
    ]
    assert not any(torch.equal(base, image) for image in changed)


def test_a_pipeline_samples_with_the_settings_of_its_stages_test(tmp_path: Path) -> None:
    module = random_module()
    module.sampler = ImageSampler(steps=2, guidance_scale=4.0, layout_scale=1.5)
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "saved")
    pipe = load(tmp_path / "saved")

    def draw(*settings: Any) -> torch.Tensor:
        return tensor(pipe(PROMPT, LAYOUT, *settings, generator=generator(), output_type="pt").images)

    assert torch.equal(draw(), draw(2, 4.0, 1.5))
    assert torch.equal(draw(3), draw(3, 4.0, 1.5))
    assert not torch.equal(draw(), draw(3))
    assert torch.equal(draw(None, None, None, ImageSampler(3, guidance_scale=4.0, layout_scale=1.5)), draw(3))
    assert torch.equal(draw(3, None, None, ImageSampler(9, guidance_scale=4.0, layout_scale=1.5)), draw(3))
    index = tmp_path / "saved" / "model_index.json"
    kept = json.loads(index.read_text())
    assert [kept.pop(name) for name in ("steps", "guidance_scale", "layout_scale")] == [2, 4.0, 1.5]
    for name in ("augmentation", "eta", "solver", "cache_interval", "fuse_qkv"):
        kept.pop(name)
    for name in ("guidance_interval", "guidance_rescale", "nouns"):
        kept.pop(name)
    for name in ("steps", "solver", "eta"):
        kept.pop(f"layout_{name}")
    index.write_text(json.dumps(kept))  # like a folder of an older version without them
    pipe = load(tmp_path / "saved")
    assert torch.equal(draw(), draw(20, 3.0, 3.0))


@pytest.mark.parametrize(
    ("sampler", "layout_sampler"),
    [
        (ImageSampler(2, "ddim", 0.7, 2.0, 1.5, augmentation=0.3), Sampler(steps=3, solver="dpmsolver++")),
        (ImageSampler(4, "dpmsolver++", 0.0, 2.0, 1.5, cache_interval=2), Sampler(steps=2, eta=0.5)),
        (
            ImageSampler(4, guidance_scale=2.0, guidance_interval=(0.3, 0.8), guidance_rescale=0.5),
            Sampler(steps=2),
        ),
    ],
)
def test_an_export_generates_the_same_as_its_module(
    tmp_path: Path, sampler: ImageSampler, layout_sampler: Sampler
) -> None:
    module = random_module().eval()
    module.sampler, module.layout_sampler = sampler, layout_sampler
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "saved")
    pipe = load(tmp_path / "saved")
    assert (pipe.sampler, pipe.layout_sampler) == (sampler, layout_sampler)
    prompts = [PROMPT, "a green square and 'SALE 50'"]
    with torch.no_grad():
        expected = module.draw(prompts)
    own_noise = sampling_generators(module.sampling_seed, numbered(prompts))
    found = pipe(prompts, generator=own_noise, output_type="pt")
    for layout, own in zip(found.layouts, expected.layouts, strict=True):
        torch.testing.assert_close(layout.boxes, own.boxes, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(tensor(found.images), expected.images / 2 + 0.5, atol=2e-3, rtol=1e-3)


def test_an_export_keeps_the_colours_of_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = VFEModule(tiny.image_generator(word_colours=True), tiny.image_encoder(), tiny.layout_generator())
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.5)
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "saved")
    pipe = load(tmp_path / "saved")
    assert pipe.config.word_colours
    layout = Layout(("SALE",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))

    def drawn(prompt: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        made = pipe(
            prompt, layouts=layout, num_inference_steps=2, guidance_scale=0, generator=generator, output_type="pt"
        )
        return tensor(made.images)

    assert not torch.allclose(drawn("'SALE'"), drawn("'SALE' in red"), atol=1e-3)


@pytest.mark.parametrize("typesetting", [True, False])
def test_an_export_keeps_whether_words_are_typeset(tmp_path: Path, typesetting: bool) -> None:
    torch.manual_seed(0)
    layouts = tiny.layout_generator()
    layouts.typesetting = typesetting
    module = VFEModule(tiny.image_generator(), tiny.image_encoder(), layouts)
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "saved")
    pipe = load(tmp_path / "saved")
    generator = torch.Generator().manual_seed(0)
    made = pipe("'illicit'", num_inference_steps=1, guidance_scale=0, generator=generator)
    box = made.layouts[0].boxes[0]
    natural, _ = typeset(("illicit",), box[None], [0])
    assert torch.allclose(natural[0], box, rtol=1e-4) is typesetting


def test_rows_of_sampled_layouts_have_the_proportions_of_their_count() -> None:
    torch.manual_seed(0)
    layouts = tiny.layout_generator()
    layouts.tlg.taught_objects.fill_(True)
    found = []
    for typesetting in (False, True):
        layouts.typesetting = typesetting
        generators = [torch.Generator().manual_seed(i) for i in range(32)]
        made = layouts.sample(["six red cars"] * 32, Sampler(steps=1), generators)
        boxes = torch.cat([layout.object_boxes for layout in made])[:, 2:4]
        found.append((boxes.amax(dim=1) / boxes.amin(dim=1)).sort().values)
    free, proportioned = found
    assert len(free) == len(proportioned) > 0
    assert free[0] < 3
    assert proportioned[0] >= 6.3 * (1 - 1e-4)


def test_what_is_said_of_letters_gets_no_box() -> None:
    torch.manual_seed(0)
    layouts = tiny.layout_generator()
    layouts.tlg.taught_objects.fill_(True)
    generators = [torch.Generator().manual_seed(i) for i in range(32)]
    made = layouts.sample(["'ab' in red, on white"] * 32, Sampler(steps=1), generators)
    assert {name for layout in made for name in layout.objects} == {"white"}


def test_fused_projections_are_kept_by_an_export() -> None:
    module = VFEModule(
        tiny.image_generator(), tiny.image_encoder(), tiny.layout_generator(), sampler=ImageSampler(2, fuse_qkv=True)
    )
    assert VLADPipeline.from_module(module).sampler == module.sampler


def test_reading_the_image_generator_changes_nothing() -> None:
    pipe = VLADPipeline.from_module(VFEModule(tiny.flow_image_generator(), tiny.image_encoder()))
    before = pipe.transformer.attn_processors
    assert pipe.image_generator.vfe.transformer is pipe.transformer
    assert pipe.transformer.attn_processors == before


def test_layouts_have_a_separate_sampler(saved: Saved) -> None:
    def boxes(**samplers: Any) -> Tensor:
        (layout,) = saved.pipe(PROMPT, num_inference_steps=1, generator=generator(), **samplers).layouts
        return layout.boxes

    plain = boxes()
    assert torch.equal(boxes(sampler=ImageSampler(eta=1.0, solver="ddim", augmentation=0.5)), plain)
    assert not torch.equal(boxes(layout_sampler=Sampler(eta=1.0)), plain)
    made = saved.module.layout_generator
    assert made is not None
    with torch.no_grad():
        (expected,) = made.sample([PROMPT], Sampler(steps=3), split_generator(generator(), 1))
    torch.testing.assert_close(boxes(layout_sampler=Sampler(steps=3)), expected.boxes, rtol=1e-4, atol=1e-4)


def test_an_image_depends_on_its_prompt_and_seed_and_not_on_its_batch(saved: Saved) -> None:
    def draw(*prompts: str, generator: Any = None) -> Tensor:
        return tensor(saved.pipe(prompts, num_inference_steps=2, generator=generator, output_type="pt").images)

    together = draw(PROMPT, PROMPT, generator=generator())
    assert (together[0] - together[1]).abs().max() > 0.01  # requested twice, there are two different images
    given = draw("a blue square", PROMPT, generator=[generator(1), generator(2)])
    torch.testing.assert_close(given[1:], draw(PROMPT, generator=[generator(2)]), atol=1e-4, rtol=1e-4)
    shared = draw(PROMPT, "a blue square", generator=generator(3))
    torch.testing.assert_close(shared[:1], draw(PROMPT, generator=generator(3)), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="generator has 1 entries"):
        draw(PROMPT, PROMPT, generator=[generator()])


def test_without_a_generator_every_call_gives_another_image(saved: Saved) -> None:
    def draw() -> Tensor:
        return tensor(saved.pipe(PROMPT, num_inference_steps=2, output_type="pt").images)

    assert (draw() - draw()).abs().max() > 0.01
    torch.manual_seed(4)  # the global generator, as in diffusers
    first = draw()
    torch.manual_seed(4)
    assert torch.equal(first, draw())


def test_prompt_with_nothing_to_draw_gives_an_image_without_text(saved: Saved) -> None:
    drawn = saved.pipe("a red circle", num_inference_steps=2, generator=generator())
    assert drawn.layouts[0].words == ()
    assert saved.pipe("", num_inference_steps=2, generator=generator()).images[0].size == (tiny.SIZE, tiny.SIZE)


def test_more_words_than_a_layout_holds_are_refused(saved: Saved) -> None:
    with pytest.raises(ValueError, match="asks for 5 words"):
        saved.pipe("a sign that says 'one two three four five'")


def test_other_output_types_and_numbers_of_layouts_are_refused(saved: Saved) -> None:
    with pytest.raises(ValueError, match="output_type is 'numpy'"):
        saved.pipe(PROMPT, output_type="numpy")
    with pytest.raises(ValueError, match="layouts has 1 entries"):
        saved.pipe([PROMPT, PROMPT], LAYOUT)
    with pytest.raises(ValueError, match="steps is 0"):
        saved.pipe(PROMPT, num_inference_steps=0)


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        (PROMPT, {"num_inference_steps": 10**9}, "steps is 1000000000; it must be a whole number from 1 to 10,000"),
        ([PROMPT] * 1001, {}, "prompt has 1,001 entries; one call generates at most 1,000 images of 32 x 32 pixels"),
        ("a" * 1_000_000, {}, "prompt 'aaa.* has 1,000,000 characters; at most 10,000 are read"),
        ([7], {}, "prompt is 7; it must be a text"),
        (PROMPT, {"layouts": Layout(("HI",) * 1001, torch.ones(1001, 5))}, "the layout has 1,001 words; at most 1,000"),
        (PROMPT, {"layouts": Layout(("H" * 10**6,), LAYOUT.boxes)}, "has 1,000,000 characters; at most 1,024 are"),
        (
            PROMPT,
            {"layouts": Layout((), torch.zeros(0, 5), (), ("a cat",) * 1001, torch.ones(1001, 5))},
            "the layout has 1,001 objects; at most 1,000 are generated",
        ),
        (PROMPT, {"layouts": LAYOUT, "layout_sampler": Sampler()}, "layout_sampler is .*: layouts are given"),
    ],
)
def test_too_large_requests_are_refused(saved: Saved, prompt: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        saved.pipe(prompt, **settings)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_opening_a_pipeline_gives_no_warning(saved: Saved, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        load(saved.folder)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("model_index.json", "image_size", 10**6),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 10**9),
        ("layout_scheduler/scheduler_config.json", "num_train_timesteps", 10**9),
        ("tlg/config.json", "max_words", 10**8),
    ],
)
def test_sizes_of_a_folder_that_would_fill_the_memory_are_refused(
    saved: Saved, tmp_path: Path, file: str, key: str, value: int
) -> None:
    folder = shutil.copytree(saved.folder, tmp_path / "again")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | {key: value}))
    with pytest.raises(ValueError, match=f"{file}: {key} is {value}; it must be at most"):
        load(folder)


def test_an_image_generator_with_a_skip_connection_needs_no_layout_generator(tmp_path: Path) -> None:
    """As `configs/rich/stage2_vfe.yaml` trains it: its layouts are given."""
    module = VFEModule(tiny.image_generator(skips=True), tiny.image_encoder())
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "saved")
    pipe = load(tmp_path / "saved")
    assert pipe.layout_skip is not None
    assert pipe.tlg is None
    assert tensor(pipe(PROMPT, LAYOUT, 1, generator=generator(), output_type="pt").images).isfinite().all()


def test_without_hierarchical_guidance_the_layout_parts_are_none(tmp_path: Path) -> None:
    pipe = VLADPipeline.from_module(random_module(hierarchical=False))
    pipe.set_progress_bar_config(disable=True)
    assert pipe.layout_generator is None
    assert pipe.tlg is None
    pipe.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "tlg").exists()
    again = load(tmp_path / "saved")
    first, second = (p(PROMPT, num_inference_steps=2, generator=generator(), output_type="pt") for p in (pipe, again))
    assert torch.equal(tensor(first.images), tensor(second.images))
    assert len(first.layouts[0]) == 0
    with pytest.raises(ValueError, match=r"layout_scale is 2\.0"):
        pipe(PROMPT, layout_scale=2.0)
    with pytest.raises(ValueError, match=r"augmentation is 0\.1"):
        pipe(PROMPT, sampler=ImageSampler(augmentation=0.1))
    with pytest.raises(ValueError, match=r"layout_sampler is .*: this pipeline makes no layouts"):
        pipe(PROMPT, layout_sampler=Sampler())


def test_without_a_tlg_settings_and_parts_of_layouts_are_refused(saved: Saved, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    VLADPipeline.from_module(random_module(hierarchical=False)).save_pretrained(folder)
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    assert [name for name in content if name.startswith("layout_") and content[name] != [None, None]] == [
        "layout_scale"
    ]
    for name, value, needed in (("steps", 7, "20"), ("solver", "dpmsolver++", "ddim"), ("eta", 0.5, "0.0")):
        index.write_text(json.dumps(content | {f"layout_{name}": value}))
        with pytest.raises(
            ValueError, match=rf"layout_{name} is {re.escape(str(value))}; it must be {needed}: .* no tlg"
        ):
            load(folder)
    index.write_text(json.dumps(content))
    pipe = load(saved.folder)
    with pytest.raises(ValueError, match=r"layout_scheduler is a DDPMScheduler"):
        VLADPipeline.from_pretrained(folder, layout_scheduler=pipe.layout_scheduler)
    assert load(folder).layout_sampler == Sampler()


PLAIN = """
import sys
import torch
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
drawn = pipe(sys.argv[2], num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="pt")
torch.save(drawn.images, sys.argv[3])
print(type(pipe).__module__, type(pipe).__name__)
"""


@pytest.mark.slow
def test_plain_diffusers_opens_the_folder_in_a_new_process(saved: Saved, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PLAIN, str(saved.folder), PROMPT, str(tmp_path / "x.pt")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub")}  # diffusers copies pipeline.py there
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "vlad_lightning.pipeline.pipeline VLADPipeline"
    ours = load(saved.folder)(PROMPT, num_inference_steps=2, generator=generator(), output_type="pt").images
    assert torch.equal(torch.load(tmp_path / "x.pt", weights_only=True), tensor(ours))


def test_plain_diffusers_needs_permission_to_run_the_folders_code(saved: Saved) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(saved.folder)


def test_a_transformer_trained_by_flow_matching_is_saved_and_loaded(tmp_path: Path) -> None:
    module = VFEModule(tiny.flow_image_generator(), tiny.image_encoder(), tiny.layout_generator())
    pipe = VLADPipeline.from_module(module)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    assert not (tmp_path / "saved" / "unet").exists()
    again = load(tmp_path / "saved")
    assert again.unet is None
    assert isinstance(again.scheduler, FlowMatchEulerDiscreteScheduler)
    first, second = (p(PROMPT, num_inference_steps=2, generator=generator(), output_type="pt") for p in (pipe, again))
    assert torch.equal(tensor(first.images), tensor(second.images))


def test_a_folder_written_before_transformers_were_supported_loads(saved: Saved, tmp_path: Path) -> None:
    shutil.copytree(saved.folder, tmp_path / "old")
    index = json.loads((tmp_path / "old" / "model_index.json").read_text())
    assert index.pop("transformer") == [None, None]
    (tmp_path / "old" / "model_index.json").write_text(json.dumps(index))
    old = load(tmp_path / "old")
    assert old.transformer is None
    first, second = (
        p(PROMPT, num_inference_steps=2, generator=generator(), output_type="pt") for p in (saved.pipe, old)
    )
    assert torch.equal(tensor(first.images), tensor(second.images))


def test_our_class_never_runs_the_folders_code(saved: Saved, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(saved.folder, folder)
    (folder / "pipeline.py").write_text("raise SystemExit('ran')\n")
    assert type(load(folder)) is VLADPipeline


@pytest.mark.parametrize("part", ["unet", "text_encoder", "tlg"])
def test_a_folder_that_lacks_weights_is_refused(saved: Saved, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(saved.folder, tmp_path / "pipeline")
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    lost = sorted(weights)[0]
    save_file({k: v for k, v in weights.items() if k != lost}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{part} lacks 1 weights of the {part}, '{lost}'"):
        VLADPipeline.from_pretrained(folder)


def test_loaded_pipeline_saves_again(saved: Saved, tmp_path: Path) -> None:
    load(saved.folder).save_pretrained(tmp_path / "again")
    index = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert index == json.loads((saved.folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "VLADPipeline"]


def test_saving_does_not_change_the_module() -> None:
    module = random_module()
    before = {key: value.clone() for key, value in module.named_parameters()}
    trained = {key: value.requires_grad for key, value in module.named_parameters()}
    pipe = VLADPipeline.from_module(module)
    for value in pipe.unet.parameters():
        value.zero_()
    assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())
    assert {key: value.requires_grad for key, value in module.named_parameters()} == trained
    assert module.image_generator.vfe.unet.training


class Reader:
    """An OCR engine that always reads the same."""

    name = "always the same"

    def read(self, images: Tensor) -> list[list[str]]:
        return [list(LAYOUT.words) for _ in images]

    def locate(self, images: Tensor) -> list[Layout]:
        return [LAYOUT if float(images.max()) > -1 else Layout.empty() for _ in images]


def test_a_template_is_read_and_its_layout_drawn(saved: Saved) -> None:
    template = Image.new("RGB", (90, 50), "white")
    drawn = saved.pipe.with_template([PROMPT] * 2, template, Reader(), 2, generator=generator(), output_type="pt")
    expected = saved.pipe([PROMPT] * 2, [LAYOUT] * 2, 2, generator=generator(), output_type="pt")
    assert torch.equal(tensor(drawn.images), tensor(expected.images))
    assert drawn.layouts == [LAYOUT] * 2
    with pytest.raises(ValueError, match="no text is read on template"):
        saved.pipe.with_template(PROMPT, Image.new("RGB", (90, 50)), Reader())


def test_words_without_glyphs_are_refused_before_anything_is_generated(saved: Saved) -> None:
    with pytest.raises(ValueError, match=r"has no glyph for '中' \(U\+4E2D\)"):
        saved.pipe("a sign that says '中'")
    with pytest.raises(ValueError, match=r"has no glyph for '中' \(U\+4E2D\)"):
        saved.pipe(PROMPT, Layout(("中",), LAYOUT.boxes))
    with pytest.raises(ValueError, match=r"font='.*none\.ttf' cannot be read"):
        saved.pipe(PROMPT, Layout(("HI",), LAYOUT.boxes, (str(saved.folder / "none.ttf"),)))
    saved.pipe("nothing to draw: 中", num_inference_steps=1)  # only drawn words need glyphs


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> VLADPipeline:
    """Save and load an inpainting pipeline."""
    torch.manual_seed(0)
    module = tiny.stage("vfe", inpaints=True)
    assert isinstance(module, VFEModule)
    for name, value in module.named_parameters():
        if name.endswith(("fusion.weight", "inpainting.weight")):
            torch.nn.init.normal_(value, std=0.3)
    folder = tmp_path_factory.mktemp("inpainter") / "saved"
    VLADPipeline.from_module(module).save_pretrained(folder)
    assert (folder / "inpainting" / "diffusion_pytorch_model.safetensors").is_file()
    return load(folder)


def pictures(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Make a noisy picture and a mask of its middle."""
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator(3))
    picture, mask = Image.fromarray(pixels.numpy()), Image.new("L", size)
    mask.paste(255, (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    return picture, mask


@pytest.mark.parametrize("size", [(tiny.SIZE, tiny.SIZE), (20, 20), (75, 50)])
def test_inpainting_keeps_every_pixel_outside_the_mask(inpainter: VLADPipeline, size: tuple[int, int]) -> None:
    picture, mask = pictures(size)
    drawn = inpainter.inpaint([PROMPT, "a blue square"], picture, mask, None, 2, generator=generator())
    for image in drawn.images:
        assert isinstance(image, Image.Image)
        assert image.size == size
        kept = Image.composite(picture, image, mask)  # the original picture inside the mask
        assert kept.tobytes() == picture.tobytes()
        assert image.tobytes() != picture.tobytes()
    assert [layout.words for layout in drawn.layouts] == [("HI",), ()]


def test_without_a_mask_the_words_boxes_are_inpainted(inpainter: VLADPipeline) -> None:
    picture, _ = pictures((40, 40))
    word = Layout(("HI",), torch.tensor([[0.5, 0.25, 0.5, 0.2, 0.0]]))
    image = inpainter.inpaint(PROMPT, picture, layouts=word, num_inference_steps=2, generator=generator()).images[0]
    assert isinstance(image, Image.Image)
    changed = ImageChops.difference(image, picture).getbbox()
    assert changed == (8, 4, 32, 16)  # the box and a quarter of its height around it


def test_inpainting_is_reproducible_and_reads_its_words(inpainter: VLADPipeline) -> None:
    picture, mask = pictures((tiny.SIZE, tiny.SIZE))

    def draw(layout: Layout | None = LAYOUT, seed: int = 0) -> Tensor:
        return tensor(
            inpainter.inpaint(PROMPT, picture, mask, layout, 2, generator=generator(seed), output_type="pt").images
        )

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(seed=1))
    assert not torch.equal(draw(), draw(Layout.empty()))


def test_an_inpainting_pipeline_still_generates_whole_images(inpainter: VLADPipeline) -> None:
    assert inpainter(PROMPT, num_inference_steps=2, generator=generator()).images[0].size == (tiny.SIZE, tiny.SIZE)


def test_inpainting_refuses_unusable_arguments(inpainter: VLADPipeline) -> None:
    picture, mask = pictures((40, 40))
    with pytest.raises(ValueError, match="mask and layouts are both None"):
        inpainter.inpaint(PROMPT, picture)
    with pytest.raises(ValueError, match="mask is empty"):
        inpainter.inpaint(PROMPT, picture, Image.new("L", (40, 40)))
    with pytest.raises(ValueError, match=r"mask has shape \(40, 39\)"):
        inpainter.inpaint(PROMPT, picture, Image.new("L", (39, 40), 255))
    with pytest.raises(ValueError, match="layouts has 'HI' outside the mask"):
        inpainter.inpaint(PROMPT, picture, mask, Layout(("HI",), torch.tensor([[0.5, 0.05, 0.3, 0.08, 0.0]])))
    with pytest.raises(ValueError, match="layouts has 2 entries"):
        inpainter.inpaint(PROMPT, picture, mask, [LAYOUT, LAYOUT])
    with pytest.raises(ValueError, match="has no glyph for '中'"):
        inpainter.inpaint("'中'", picture, mask)
    with pytest.raises(ValueError, match="output_type is 'numpy'"):
        inpainter.inpaint(PROMPT, picture, mask, output_type="numpy")
