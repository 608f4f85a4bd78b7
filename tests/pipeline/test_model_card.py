from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save_file

from vlad_lightning.checkpoints.folder import digest
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.pipeline.model_card import Run, read_run, write_card

RESULTS = {
    "word_accuracy": {"value": 0.5737, "low": 0.529, "high": 0.618, "n": 556, "data": "/folders/of/mine/heldout"},
    "human_word_accuracy": {"value": 0.25, "low": None, "high": None, "n": 100, "data": "prompts.txt"},
    "frechet_distance": {"value": 12.0, "low": None, "high": None, "n": 300},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"weights")
    return path


def card(
    tmp_path: Path, checkpoint: Path, callbacks: dict[str, Any] | None = None, pictures: Sequence[Path] = ()
) -> ModelCard:
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    save_file({"weight": torch.ones(1000, dtype=torch.float16)}, folder / "unet" / "x.safetensors")
    saved = {"global_step": 3000, "callbacks": callbacks or {}}
    (folder / "model_index.json").write_text('{"image_size": 64, "max_words": 6, "max_objects": 12}')
    settings = ImageSampler(steps=50, guidance_scale=7.5, eta=0.5), Sampler(steps=9), {"seed_everything": 7}
    run = read_run("posters", "data/train", checkpoint, saved, tmp_path / "results.json", *settings)
    write_card(folder, run, pictures)
    return ModelCard.load(folder / "README.md")


def test_the_card_describes_the_run(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"vlad": RESULTS}))
    found = card(tmp_path, checkpoint)
    assert found.data.license == "apache-2.0"
    assert found.data.library_name == "diffusers"
    assert found.data.pipeline_tag == "text-to-image"
    assert found.data.get("base_model") is None
    assert found.data.eval_results is not None
    assert {r.metric_type: r.metric_value for r in found.data.eval_results} == {
        "word_accuracy": 0.5737,
        "human_word_accuracy": 0.25,
        "frechet_distance": 12.0,
    }
    assert {r.metric_type: r.dataset_name for r in found.data.eval_results} == {
        "word_accuracy": "mine/heldout",
        "human_word_accuracy": "prompts.txt",
        "frechet_distance": "not recorded",
    }
    assert "| 556 | mine/heldout |" in found.text
    assert "/folders" not in found.content
    assert "`sampler.eta=0.5`, `layout_sampler.steps=9`" in found.text
    assert "`num_inference_steps=50`, `guidance_scale=7.5`, `layout_scale=1.0`" in found.text
    for text in ("Data: `data/train`", "stage 2: 3000", "| word_accuracy | 0.5737 | 0.529 to 0.618 | 556 |"):
        assert text in found.text
    for content in (b"weights", (tmp_path / "pipeline" / "unet" / "x.safetensors").read_bytes()):
        assert hashlib.sha256(content).hexdigest() in found.text
    assert "`unet/x.safetensors`" in found.text
    assert "The weights are stored as float16, 0.0 MB in all, and loaded as float32." in found.text


def test_the_card_shows_pictures_limits_seeds_and_the_licence(tmp_path: Path, checkpoint: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "first 32.png")
    found = card(tmp_path, checkpoint, pictures=[tmp_path / "first 32.png"])
    assert "![first 32](images/first%2032.png)" in found.text
    assert (tmp_path / "pipeline" / "images" / "first 32.png").is_file()
    for text in (
        "vlad-cli generate \"a poster that says 'HELLO'\" --model posters",
        "Images are 64 x 64 pixels. A prompt has at most 6 words to draw and 12 other phrases.",
        "- Seeds: `seed_everything=7`",
        "Apache-2.0, as vlad-lightning.",
    ):
        assert text in found.text


def test_the_card_names_the_objects_that_the_training_data_show(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    for nouns, told in ((["cat", "tree"], "It has learned to draw 2 objects: cat, tree."), ([], "")):
        (folder / "model_index.json").write_text(json.dumps({"nouns": nouns}))
        write_card(folder, Run("posters", "data/train", "last.ckpt", "0", 1))
        text = ModelCard.load(folder / "README.md").text
        assert ("It has learned to draw" in text) == bool(nouns)
        assert told in text


def test_the_licence_of_published_weights_is_named(tmp_path: Path, checkpoint: Path) -> None:
    callbacks = {
        "FromPretrained[image_generator.vfe.unet]": {"source": "someone/diffusion-1"},
        "FromPretrained[image_generator.autoencoder]": {"source": "/folders/of/mine"},
        "InitFrom[image_generator.prompt_encoder]": {"source": "prompt_encoder", "sources": ["someone/encoder"]},
        "InitFrom[image_encoder]": {"source": "image_encoder", "sources": []},
    }
    found = card(tmp_path, checkpoint, callbacks)
    assert (found.data.license, found.data.license_name) == ("other", "as-the-base-models")
    assert found.data.get("base_model") == ["someone/diffusion-1", "someone/encoder"]
    assert "`of/mine`" in found.text
    assert "/folders" not in found.content


@pytest.mark.parametrize("results", [None, "older"])
def test_results_of_another_checkpoint_are_not_shown(results: str | None, tmp_path: Path, checkpoint: Path) -> None:
    if results:
        (tmp_path / "results.json").write_text(json.dumps({"vlad": RESULTS}))
        os.utime(tmp_path / "results.json", (1, 1))
    found = card(tmp_path, checkpoint)
    assert found.data.eval_results is None
    assert "Not measured yet" in found.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"vlad": [1]}', '{"vlad": {"fid": {}}}'])
def test_damaged_results_are_set_aside(content: str, tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.warns(UserWarning, match=r"results.json is damaged: .*test again for the results"):
        assert "Not measured yet" in card(tmp_path, checkpoint).text
    assert (tmp_path / "results.json.damaged").read_text() == content


def trained(path: Path, steps: int, settings: dict[str, Any], origins: Sequence[Path] = (), processes: int = 1) -> Path:
    """Write a checkpoint with the records that a fit leaves in it."""
    states = {
        f"InitFrom[part{n}]": {"checkpoint": str(p), "sha256": digest(p), "sources": []} for n, p in enumerate(origins)
    }
    path.parent.mkdir(parents=True)
    callbacks = {**states, "ConfigLock": {"world_size": processes}}
    torch.save({"global_step": steps, "state_dict": {}, "callbacks": callbacks, "vlad_config": settings}, path)
    return path


def test_the_card_has_the_settings_of_all_stages(tmp_path: Path) -> None:
    folder = {"data.root": "{out}/data/train", "data.batch_size": 32}
    online = {
        "data.source.class_path": "vlad_lightning.data.synthetic.online.SyntheticSource",
        "data.source.world": "rich",
        "data.source.seed": 5,
        "data.batch_size": 16,
    }
    stage0, stage1, stage2 = (tmp_path / name / "last.ckpt" for name in ("stage0", "stage1", "stage2"))
    names = {n: {"model.class_path": f"vlad_lightning.modules.{n}"} for n in ("AlignmentModule", "TLGModule")}
    trained(stage0, 1200, {**names["AlignmentModule"], **folder, "model.optimization.lr": 1e-3}, processes=4)
    trained(stage1, 1600, names["TLGModule"], [stage0])
    own = {"model.class_path": "vlad_lightning.modules.VFEModule", "seed_everything": 7, **online}
    rates = {"model.optimization.lr": 8e-4, "model.optimization.encoder_lr": None, "model.optimization.map_lr": 1e-3}
    trained(stage2, 2800, {**own, **rates, "trainer.accumulate_grad_batches": 2}, [stage0, stage1])
    saved = torch.load(stage2, weights_only=True)
    write_card(tmp_path / "stage2", read_run("posters", "elsewhere", stage2, saved, tmp_path / "none"))
    text = ModelCard.load(tmp_path / "stage2" / "README.md").text
    source = "SyntheticSource(world=rich, seed=5)"
    rows = [
        "| `stage0` | AlignmentModule | 1,200 | 128 | `lr=0.001` |  | `data/train` |",
        "| `stage1` | TLGModule | 1,600 |  |  |  |  |",
        f"| `stage2` | VFEModule | 2,800 | 32 | `lr=0.0008`, `map_lr=0.001` | 7 | `{source}` |",
    ]
    assert "\n".join(rows) in text
    assert f"- Data: `{source}`" in text
    assert "drawn from Font Awesome Free 6 by Fonticons, Inc. (CC BY 4.0)" in text


def test_the_icons_of_a_mixture_are_credited(tmp_path: Path) -> None:
    checkpoint = tmp_path / "stage2" / "last.ckpt"
    record = {"data.source.class_path": "vlad_lightning.data.mixed_source.MixedSource"}
    for number, world in enumerate(("plain", "literal")):
        part = f"data.source.sources.SyntheticSource[{number}]"
        record |= {f"{part}.class_path": "vlad_lightning.data.synthetic.online.SyntheticSource", f"{part}.world": world}
    trained(checkpoint, 10, record)
    saved = torch.load(checkpoint, weights_only=True)
    run = read_run("posters", "elsewhere", checkpoint, saved, tmp_path / "none")
    assert [stage.credits for stage in run.stages] == ["Font Awesome Free 6 by Fonticons, Inc. (CC BY 4.0)"]
    assert run.data == "MixedSource(SyntheticSource[0].world=plain, SyntheticSource[1].world=literal)"


def test_a_stage_that_was_trained_again_since_is_not_described(tmp_path: Path) -> None:
    stage0, stage2 = (tmp_path / name / "last.ckpt" for name in ("stage0", "stage2"))
    trained(stage0, 1200, {"model.class_path": "AlignmentModule"})
    trained(stage2, 2800, {"model.class_path": "vlad_lightning.modules.VFEModule"}, [stage0])
    stage0.write_bytes(b"another")
    saved = torch.load(stage2, weights_only=True)
    write_card(tmp_path / "stage2", read_run("posters", "elsewhere", stage2, saved, tmp_path / "none"))
    text = ModelCard.load(tmp_path / "stage2" / "README.md").text
    assert "| `stage0` | not recorded: its checkpoint is gone |" in text
    assert "AlignmentModule" not in text
    assert "- Data: `elsewhere`" in text


def test_notes_are_a_section_of_the_card(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    run = read_run("posters", "data", checkpoint, {"global_step": 1}, tmp_path / "none", notes="Words were held out.\n")
    write_card(tmp_path / "pipeline", run)
    assert "\n## Notes\n\nWords were held out.\n" in ModelCard.load(tmp_path / "pipeline" / "README.md").text
