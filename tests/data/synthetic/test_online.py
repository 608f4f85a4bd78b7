"""Posters that are drawn when they are read equal those in files, in any process, and a resumed fit reads on."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.cli import fit as cli
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mario import list_samples, read_sample, read_texts
from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.data.source import RawSample
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.files import configs_folder


def told(sample: RawSample) -> bytes:
    """Return all that a sample holds."""
    words = [(word.text, word.quad.tolist(), word.confidence) for word in sample.words]
    parts = (sample.key, sample.caption, sample.prompt, words, sample.problems, sample.scene, sample.image.mode)
    return repr(parts).encode() + np.asarray(sample.image).tobytes()


@pytest.mark.parametrize("arguments", [{"world": "rich", "seed": 3}, {"size": 64, "heldout": True}])
def test_a_poster_equals_the_one_in_the_files(tmp_path: Path, arguments: dict[str, Any]) -> None:
    source = SyntheticSource(8, **arguments)
    write_posters(tmp_path / "out", samples=8, workers=1, charseg=False, **{"size": 128} | arguments)
    folders = list_samples(tmp_path / "out")
    assert len(source) == len(source.keys) == len(folders)
    for index, folder in enumerate(folders):
        stored, drawn = read_sample(folder), source.read(index)
        assert told(drawn) == told(stored)
        assert source.keys[index] == stored.key
        unread = (read_sample(folder, with_image=False), source.read_without_image(index))
        assert [told(replace(sample, image=drawn.image)) for sample in unread] == [told(drawn)] * 2
        texts, drawn_texts = read_texts(folder), source.read_texts(index)
        assert (texts.caption, texts.prompt) == (drawn_texts.caption, drawn_texts.prompt)
        assert [word.text for word in texts.words] == [word.text for word in drawn_texts.words]


def test_it_is_the_same_in_another_process() -> None:
    source = SyntheticSource(10**7, world="rich")
    index = 9_876_543
    code = (
        "import pickle, sys, hashlib, numpy as np\n"
        "source = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        f"sample = source.read({index})\n"
        "print(hashlib.sha256(repr((sample.key, sample.prompt, sample.scene)).encode()"
        " + np.asarray(sample.image).tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, pickle.dumps(source).hex()]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    sample = source.read(index)
    here = repr((sample.key, sample.prompt, sample.scene)).encode() + np.asarray(sample.image).tobytes()
    assert there == hashlib.sha256(here).hexdigest()


def data(samples: int = 60, num_workers: int = 0) -> MarioDataModule:
    source = SyntheticSource(samples, size=64, world="rich")
    return MarioDataModule(source=source, size=tiny.SIZE, batch_size=4, max_objects=8, seed=1, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fit_resumes_bit_for_bit(tmp_path: Path, num_workers: int) -> None:
    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> Any:
        module, trainer = tiny.stage("alignment", seed), tiny.trainer(steps, callbacks=[ExactResume()])
        trainer.fit(module, datamodule=data(num_workers=num_workers), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    _, whole = fit(4, 0)
    stopped, _ = fit(2, 0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    trainer, resumed = fit(4, 1, tmp_path / "stopped.ckpt")  # what the seed gives is overwritten
    assert trainer.global_step == 4
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[name]) for name, value in whole.named_parameters())


def test_no_poster_is_read_twice_in_an_epoch_and_splits_are_disjoint() -> None:
    module = data()
    module.setup()
    loaders: Any = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    keys = [key for loader in loaders for batch in loader for key in batch.keys]
    assert len(keys) == len(set(keys)) > 50


def test_its_scenes_train_a_detector() -> None:
    module = SceneDataModule(source=SyntheticSource(20, size=64, world="rich"), size=64, batch_size=4)
    module.setup()
    batch: Any = next(iter(module.train_dataloader()))
    assert batch.images.shape == (4, 3, 64, 64)
    assert batch.things[..., 0].any()


def test_other_posters_have_another_fingerprint() -> None:
    first = SyntheticSource(20, size=64).content()
    assert first == SyntheticSource(20, size=64).content()
    for other in (SyntheticSource(21, size=64), SyntheticSource(20, size=64, seed=1), SyntheticSource(20, size=72)):
        assert other.content() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"samples": 1, "size": 20}, "size is 20"),
        ({"samples": 1, "world": "x"}, "'x'"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticSource(**arguments)


def test_a_configuration_names_it(tmp_path: Path) -> None:
    config = str(configs_folder() / "mini/stage1_tlg.yaml")
    source = f"{SyntheticSource.__module__}.{SyntheticSource.__qualname__}"
    args = ["--config", config, "--data.root", "null", "--data.source", source, "--out", str(tmp_path)]
    args += ["--data.source.samples", "50", "--data.source.world", "rich", "--data.source.size", "64"]
    built = cli.build(args, run=False)
    assert isinstance(built.datamodule.source, SyntheticSource)
    assert (built.datamodule.source.samples, built.datamodule.source.world) == (50, "rich")
