from __future__ import annotations

import json
import shutil
from pathlib import Path

import deepfloyd_folders
import pytest
import torch
from diffusers import IFPipeline, IFSuperResolutionPipeline, StableDiffusionUpscalePipeline

from vlad_lightning.baselines.deepfloyd import (
    DeepFloydSampling,
    DeepFloydSystem,
    as_scored,
    find_stages,
    open_deepfloyd,
)
from vlad_lightning.types import Layout

PROMPTS = ["a poster that says 'Hi'", "a red circle"]
QUICK = DeepFloydSampling(steps=(2, 2, 2), guidance_scales=(7.0, 4.0, 9.0), third_noise=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deepfloyd_folders.cascade(tmp_path_factory.mktemp("deepfloyd") / "if")


@pytest.fixture(scope="module")
def system(folder: Path) -> DeepFloydSystem:
    return open_deepfloyd(folder, "cpu", torch.float32)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_images_are_those_of_the_three_pipelines_one_after_the_other(folder: Path, system: DeepFloydSystem) -> None:
    """Compare with the calls that diffusers documents, and IF's own numbers."""
    ours = system.generate(PROMPTS, None, QUICK, generators(1, 2))
    assert ours.images.shape == ours.glyphs.shape == (2, 3, 512, 512)
    assert [len(layout) for layout in ours.layouts] == [0, 0]
    none = {"safety_checker": None, "requires_safety_checker": False}
    base = IFPipeline.from_pretrained(folder / "IF-I-XL-v1.0", **none)
    upscaler = IFSuperResolutionPipeline.from_pretrained(folder / "IF-II-L-v1.0", text_encoder=None, **none)
    last = StableDiffusionUpscalePipeline.from_pretrained(folder / "stable-diffusion-x4-upscaler")
    (own,) = generators(2)
    states, empty = base.encode_prompt(PROMPTS[1])
    told = {"prompt_embeds": states, "negative_prompt_embeds": empty, "generator": own, "output_type": "pt"}
    small = base(**told, num_inference_steps=2, guidance_scale=7.0).images
    larger = upscaler(image=small, **told, num_inference_steps=2, guidance_scale=4.0, noise_level=250).images
    images = last(
        PROMPTS[1],
        image=(larger + 1) / 2,
        generator=own,
        num_inference_steps=2,
        guidance_scale=9.0,
        noise_level=20,
        output_type="pt",
    ).images
    torch.testing.assert_close(ours.images[1], as_scored(images * 2 - 1)[0], atol=2e-3, rtol=0)
    assert float(ours.images[1, :, :448].std()) > 0.05


def test_the_corner_of_ifs_mark_is_black_and_nothing_else(system: DeepFloydSystem) -> None:
    images = torch.linspace(-0.5, 1.2, 3 * 1024 * 1024).view(1, 3, 1024, 1024)
    scored = as_scored(images)
    assert scored.shape == (1, 3, 512, 512)
    assert bool((scored[..., 448:, 448:] == -1).all())
    assert float(scored[..., :448, :].min()) > -0.51
    assert float(scored[..., :448].min()) > -0.51
    assert float(scored.max()) == 1
    same = images[..., :512, :512].clone()
    assert torch.equal(as_scored(same)[..., :448], same.clamp(-1, 1)[..., :448])


def test_layouts_are_refused(system: DeepFloydSystem) -> None:
    layout = Layout(("Hi",), torch.tensor([[0.5, 0.5, 0.2, 0.1, 0.0]]))
    with pytest.raises(ValueError, match="layouts are given, and DeepFloyd IF follows none"):
        system.generate(PROMPTS, [None, layout], QUICK, generators(1, 2))


def test_a_folder_without_a_stage_says_which_one_is_missing(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(folder / "IF-I-XL-v1.0", part / "first")
    with pytest.raises(ValueError, match=r"has no folder of IFSuperResolutionPipeline, the second stage, such as"):
        open_deepfloyd(part, "cpu", torch.float32)
    shutil.copytree(part / "first", part / "again")
    with pytest.raises(ValueError, match=r"has two folders of IFPipeline, again and first"):
        find_stages(part)
    assert find_stages(folder / "IF-I-XL-v1.0") == {}
    (part / "again" / "model_index.json").write_text(json.dumps(["no", "index"]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"again/model_index\.json is no index of a pipeline"):
        find_stages(part)


def test_truncated_weights_are_named(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = next((broken / "IF-II-L-v1.0" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{weights.name} cannot be read"):
        open_deepfloyd(broken, "cpu", torch.float32)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps is 0; it must be a whole number from 1"):
        DeepFloydSampling(steps=(100, 0, 75))
    with pytest.raises(ValueError, match=r"guidance_scales is \(7\.0, -1\.0, 9\.0\)"):
        DeepFloydSampling(guidance_scales=(7.0, -1.0, 9.0))
    with pytest.raises(ValueError, match=r"second_noise is 1000"):
        DeepFloydSampling(second_noise=1000)
