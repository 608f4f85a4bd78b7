from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import published_folders
import pytest
import torch
from diffusers import StableDiffusionPipeline

from vlad_lightning.evaluation.image_generation import Generation, generate_images
from vlad_lightning.evaluation.shards import Shard
from vlad_lightning.evaluation.suite import Item, Suite
from vlad_lightning.evaluation.systems import OpenSystem, SystemSettings, open_system

PROMPTS = ("a red circle", "a blue star", "a green tree")
SUITE = Suite(
    "own",
    tuple(Item(f"set/{i}", p, "all", ()) for i, p in enumerate(PROMPTS)),
    (),
    2,
    jpeg_quality=75,
    seeding="running",
)
HOW = Generation(seed=5, as_published=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "sd"
    published_folders.stable_diffusion_1(folder)
    return folder


@pytest.fixture(scope="module")
def system(folder: Path) -> OpenSystem:
    return open_system(str(folder), SystemSettings(steps=2, guidance_scale=2.0, device="cpu"))


@pytest.fixture(scope="module")
def whole(system: OpenSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert generate_images(system, SUITE, out, HOW) == (6, 0)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "images").rglob("*.*")}


def test_the_images_are_those_of_a_loop_with_one_generator(folder: Path, whole: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    generator, expected = torch.Generator().manual_seed(5), {}
    for index, prompt in enumerate(PROMPTS):
        made = pipe(prompt, num_inference_steps=2, guidance_scale=2.0, num_images_per_prompt=2, generator=generator)
        for number, image in enumerate(made.images):
            content = io.BytesIO()
            image.save(content, "JPEG", quality=75)
            expected[f"{index}_{number}.jpg"] = content.getvalue()
    assert files(whole) == expected
    assert len({*expected.values()}) == 6
    record = json.loads((whole / "generation.json").read_text())
    assert (record["seeding"], record["seed"], record["batch_size"]) == ("running", 5, 2)


def test_a_stopped_generation_goes_on_with_the_same_noise(system: OpenSystem, whole: Path, tmp_path: Path) -> None:
    class Stopping:
        """The system, until its second prompt."""

        prompts = 0

        def generate(self, *args: object) -> object:
            self.prompts += 1
            if self.prompts > 1:
                raise KeyboardInterrupt
            return system.system.generate(*args)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        generate_images(replace(system, system=Stopping()), SUITE, tmp_path, HOW)  # type: ignore[arg-type]
    assert sorted(files(tmp_path)) == ["0_0.jpg", "0_1.jpg"]
    assert generate_images(system, SUITE, tmp_path, HOW) == (4, 2)
    assert files(tmp_path) == files(whole)
    (tmp_path / "images" / "set" / "1_0.jpg").unlink()
    with pytest.raises(ValueError, match=r"1_0\.jpg is gone, and a running generator cannot make it again"):
        generate_images(system, SUITE, tmp_path, HOW)
    (tmp_path / "running_generator.json").write_text('{"prompts_done": 1, "state": "AAAA"}')
    with pytest.raises(ValueError, match=r"running_generator\.json is no state of a generator"):
        generate_images(system, SUITE, tmp_path, HOW)


def test_what_has_no_running_generator_is_refused(system: OpenSystem, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="draws from one running generator, and each of 2 tasks would have another state"
    ):
        Generation(as_published=True, shard=Shard(1, 2))
    with pytest.raises(ValueError, match="own has no published script with a running generator"):
        generate_images(system, replace(SUITE, seeding="each"), tmp_path, HOW)
    generate_images(system, replace(SUITE, items=SUITE.items[:1]), tmp_path, replace(HOW, as_published=False))
    with pytest.raises(ValueError, match="another prompts_sha256 and seed_rule and seeding and batch_size"):
        generate_images(system, SUITE, tmp_path, HOW)
