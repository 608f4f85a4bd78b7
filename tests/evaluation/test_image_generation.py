from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepfloyd_folders
import numpy as np
import published_folders
import pytest
import tiny_system as tiny
import torch
from diffusers import StableDiffusionPipeline
from kills import kill_when
from PIL import Image

from vlad_lightning.cli.generate import main as generate_one
from vlad_lightning.evaluation.image_files import find_images, seed_of_image
from vlad_lightning.evaluation.image_generation import Generation, generate_images
from vlad_lightning.evaluation.image_seeds import image_seed
from vlad_lightning.evaluation.shards import Shard
from vlad_lightning.evaluation.suite import Item, Suite
from vlad_lightning.evaluation.systems import OpenSystem, SystemSettings, open_system
from vlad_lightning.pipeline import VLADPipeline

PROMPTS = ("a poster that says 'HI'", "a red circle", "'SALE 50' on blue")
SUITE = Suite("own", tuple(Item(f"set/{i}", prompt, "all", ()) for i, prompt in enumerate(PROMPTS)), (), 2)
CPU = SystemSettings(steps=2, device="cpu")
HOW = Generation(seed=5, batch_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation") / "tiny"
    module: Any = tiny.stage("vfe")
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def system(folder: Path) -> OpenSystem:
    return open_system(str(folder), CPU)


@pytest.fixture(scope="module")
def whole(system: OpenSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert generate_images(system, SUITE, out, HOW) == (6, 0)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "images").rglob("*.png")}


def test_every_prompt_has_its_images_with_prompt_and_seed(whole: Path) -> None:
    images = find_images(whole / "images", SUITE, 2)
    assert [seed_of_image(image) for image in images] == [
        image_seed(5, f"set/{i}", n) for i in range(3) for n in (0, 1)
    ]
    told = Image.open(whole / "images" / "set" / "0_1.png").info
    assert told["prompt"] == PROMPTS[0]
    assert told["parameters"].startswith(f"{PROMPTS[0]}\nSteps: 2, Sampler: ddim, CFG scale: ")
    assert json.loads(told["layout"])["words"][0]["text"] == "HI"
    record = json.loads((whole / "generation.json").read_text())
    assert record["prompts_sha256"] == SUITE.sha256
    assert record["weights_sha256"] == told["model_hash"]
    assert record["settings"]["steps"] == 2
    assert len({*files(whole).values()}) == 6


def test_an_image_can_be_made_again_by_generate(folder: Path, whole: Path, tmp_path: Path) -> None:
    """The seed in its text is that of ``vlad-cli generate``; a batch may round a pixel differently."""
    path = whole / "images" / "set" / "2_1.png"
    seed = Image.open(path).info["seed"]
    out = tmp_path / "a.png"
    generate_one(
        [PROMPTS[2], "--model", str(folder), "--seed", seed, "--steps", "2", "--device", "cpu", "--out", str(out)]
    )
    ours, again = (np.asarray(Image.open(file).convert("RGB"), dtype=int) for file in (path, out))
    assert np.abs(ours - again).max() <= 1


def test_a_stopped_generation_goes_on_with_the_same_images(system: OpenSystem, whole: Path, tmp_path: Path) -> None:
    generate_images(system, SUITE, tmp_path, HOW)
    for name in ("0_1.png", "2_0.png"):
        (tmp_path / "images" / "set" / name).unlink()
    kept = tmp_path / "images" / "set" / "0_0.png"
    kept.write_bytes(b"not made again")
    assert generate_images(system, SUITE, tmp_path, HOW) == (2, 4)
    assert files(tmp_path) == {**files(whole), "0_0.png": b"not made again"}


def test_a_generation_that_is_killed_goes_on(system: OpenSystem, tmp_path: Path) -> None:
    """kill -9 after some of 24 images; then the same images as without the kill, none made twice."""
    how = replace(HOW, images_per_prompt=8, batch_size=3)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_when(lambda: generate_images(system, SUITE, killed, how), lambda: len([*killed.rglob("[0-9]*.png")]) >= 7)
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("[0-9]*.png")}
    assert 7 <= len(before) < 24
    assert generate_images(system, SUITE, killed, how) == (24 - len(before), len(before))
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    generate_images(system, SUITE, whole, how)
    assert files(killed) == files(whole)


def test_shards_make_the_same_images(system: OpenSystem, whole: Path, tmp_path: Path) -> None:
    made = [generate_images(system, SUITE, tmp_path, replace(HOW, shard=Shard(i, 2))) for i in range(2)]
    assert made == [(4, 0), (2, 0)]
    assert files(tmp_path) == files(whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 6}, r"another seed \(seed was 5, and is 6\); name another --out"),
        ({"batch_size": 3}, "another batch_size"),
        ({"images_per_prompt": 3}, "another images_per_prompt"),
    ],
)
def test_another_generation_is_refused(system: OpenSystem, whole: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_images(system, SUITE, whole, replace(HOW, **changed))


def test_prompts_that_cannot_be_drawn_are_refused_or_blank(system: OpenSystem, tmp_path: Path) -> None:
    long = Item("long", " ".join(f"'W{i}'" for i in range(20)), "all", ())
    suite = replace(SUITE, items=(*SUITE.items[:1], long), images_per_prompt=1)
    with pytest.raises(ValueError, match=r"refuses 1 of 2 prompts \(long: .*asks for 20 words.*--blank_refused"):
        generate_images(system, suite, tmp_path, HOW)
    assert not any(tmp_path.iterdir())
    generate_images(system, suite, tmp_path, replace(HOW, blank_refused=True))
    blank = Image.open(tmp_path / "images" / "long_0.png")
    assert (blank.size, blank.getextrema()) == ((tiny.SIZE, tiny.SIZE), ((255, 255),) * 3)
    assert list(json.loads((tmp_path / "generation.json").read_text())["refused"]) == ["long"]


def test_other_systems_of_diffusers_are_generated_with_too(tmp_path: Path) -> None:
    published_folders.stable_diffusion_1(tmp_path / "sd")
    system = open_system(str(tmp_path / "sd"), replace(CPU, guidance_scale=2.0))
    suite = replace(SUITE, items=SUITE.items[1:2])
    generate_images(system, suite, tmp_path / "out", replace(HOW, batch_size=1))
    path = tmp_path / "out" / "images" / "set" / "1_1.png"
    told = Image.open(path).info
    assert (told["steps"], told["guidance_scale"], told["pipeline"]) == ("2", "2.0", "StableDiffusionPipeline")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(int(told["seed"]))
    image = pipe(PROMPTS[1], num_inference_steps=2, guidance_scale=2.0, generator=generator).images[0]
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(path)))
    with pytest.raises(ValueError, match=r"--layout_scale is 2\.0, which .* does not have"):
        open_system(str(tmp_path / "sd"), replace(CPU, layout_scale=2.0))
    (weights,) = (tmp_path / "sd" / "unet").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises((ValueError, OSError)):
        open_system(str(tmp_path / "sd"), CPU)


def test_folders_that_are_no_systems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--model .*none is no folder"):
        open_system(str(tmp_path / "none"), CPU)
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        open_system(str(tmp_path), CPU)
    (tmp_path / "model_index.json").write_text('{"_class_name": ["own", "OwnPipeline"]}')
    with pytest.raises(ValueError, match="no code of a folder is run"):
        open_system(str(tmp_path), CPU)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(ValueError, match="is no index of a pipeline"):
        open_system(str(tmp_path), CPU)
    with pytest.raises(ValueError, match="--steps is 0"):
        SystemSettings(steps=0)
    with pytest.raises(ValueError, match="--dtype is 'int8'"):
        SystemSettings(dtype="int8")


def test_a_folder_of_deepfloyds_stages_is_a_model(tmp_path: Path) -> None:
    folder = deepfloyd_folders.cascade(tmp_path / "if")
    opened = open_system(str(folder), replace(CPU, guidance_scale=5.0))
    assert opened.sampling.steps == (2, 50, 75)
    assert opened.sampling.guidance_scales == (5.0, 4.0, 9.0)
    quick = replace(opened, sampling=replace(opened.sampling, steps=(2, 1, 1), third_noise=20))
    suite = Suite("own", SUITE.items[:1], (), 1)
    assert generate_images(quick, suite, tmp_path / "out", HOW) == (1, 0)
    with Image.open(tmp_path / "out" / "images" / "set" / "0_0.png") as image:
        assert image.size == (512, 512)
        assert image.info["pipeline"] == "DeepFloyd IF, three stages"
        assert image.getpixel((511, 511)) == (0, 0, 0)
    changed = next((folder / "IF-II-L-v1.0").glob("unet/*.safetensors"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    assert open_system(str(folder), CPU).weights_sha256 != opened.weights_sha256
    with pytest.raises(ValueError, match=r"is one stage of DeepFloyd IF; name the folder"):
        open_system(str(folder / "IF-I-XL-v1.0"), CPU)
    with pytest.raises(ValueError, match=r"--layout_scale is 2\.0, which .* does not have"):
        open_system(str(folder), replace(CPU, layout_scale=2.0))
