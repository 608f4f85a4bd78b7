"""Samples from a custom source are split, ordered, built, batched and trained on like those of a folder."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch
from PIL import Image

from vlad_lightning.cli import fit as cli
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.data.scene_file import ObjectFacts, SceneFacts
from vlad_lightning.data.source import DataOutageError, RawSample, SampleSource, SkipSample
from vlad_lightning.files import configs_folder
from vlad_lightning.modules import AlignmentModule

QUAD = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.5], [0.25, 0.5]], dtype=np.float32)
STAR = ObjectFacts("star", "red", (0.1, 0.6, 0.3, 0.9), "bottom left", "a red star")


class Numbered(Sequence[str]):
    """Names that are computed on demand."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        return f"drawn_{index:09d}"


class Drawn(SampleSource):
    """Posters that are made on demand, without files or a list.

    Args:
        length: number of posters.
        broken: indices of the unusable ones.
        away: whether the source is unavailable at the moment.
    """

    def __init__(self, length: int = 20, broken: Sequence[int] = (), away: bool = False) -> None:
        self.length = length
        self.broken = broken
        self.away = away
        self.read_so_far: list[int] = []

    def __len__(self) -> int:
        return self.length

    @property
    def keys(self) -> Sequence[str]:
        return Numbered(self.length)

    def read(self, index: int) -> RawSample:
        self.read_so_far.append(index)
        if self.away:
            raise DataOutageError("the archive is away")
        if index in self.broken:
            raise SkipSample("no ink", self.keys[index])
        image = Image.new("CMYK", (40, 30), (0, 255, 255, index))  # red; a source need not convert its images
        words = (OcrWord("HELLO", QUAD, 0.9),)
        scene = SceneFacts("white", "solid", None, (), (STAR,))
        return RawSample(self.keys[index], image, "a red star and HELLO", words, (), scene)


def data(source: SampleSource | None = None, **changes: Any) -> MarioDataModule:
    settings = {"size": tiny.SIZE, "batch_size": 4, "max_objects": 8} | changes
    return MarioDataModule(source=Drawn() if source is None else source, **settings)


def keys(module: MarioDataModule, name: str) -> list[str]:
    module.setup()
    return [key for batch in getattr(module, f"{name}_dataloader")() for key in batch.keys]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_its_samples_become_batches_and_the_splits_are_disjoint(num_workers: int) -> None:
    module = data(val_share=0.3, test_share=0.3, batch_size=2, num_workers=num_workers)
    found = {name: set(keys(module, name)) for name in ("train", "val", "test")}
    assert all(found.values())
    assert len(set().union(*found.values())) == sum(map(len, found.values()))
    batch: Any = next(iter(module.val_dataloader()))
    assert batch.images.shape == (2, 3, tiny.SIZE, tiny.SIZE)
    assert batch.images[:, 0].min() > 0.8
    assert batch.images[:, 1:].max() < -0.9
    assert batch.prompts[0] == 'a red star and "HELLO"'
    assert batch.glyphs.any()
    assert batch.object_mask[0].tolist()[:2] == [True, False]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stage_trains_on_a_source(num_workers: int) -> None:
    module, source = tiny.stage("alignment", tokenizer=False), Drawn()
    assert isinstance(module, AlignmentModule)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = tiny.trainer(3, limit_val_batches=1)
    trainer.fit(module, data(source, num_workers=num_workers))
    assert trainer.global_step == 3
    assert any(not torch.equal(value, before[name]) for name, value in module.named_parameters())
    assert module.prompt_encoder.text_encoder.tokenizer is not None  # the tokenizer was trained on its captions


def test_a_stage_without_images_trains_on_a_source_that_can_only_read_whole_samples() -> None:
    source = Drawn()
    tiny.trainer(2, limit_val_batches=1).fit(tiny.tlg(), data(source))
    assert len(source.read_so_far) >= 8


def test_a_large_source_is_neither_listed_nor_read_before_the_first_batch() -> None:
    source = Drawn(length=20_000)
    module = data(source)
    module.setup()
    assert source.read_so_far == []
    loader: Any = iter(module.train_dataloader())
    assert set(next(loader).keys) == {source.keys[i] for i in source.read_so_far}
    assert len(source.read_so_far) == 4


def test_skipped_samples_are_replaced_and_named_and_an_outage_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = range(0, 20, 2)
    module = data(Drawn(broken=broken), val_share=0.3, test_share=0.3)
    read = [key for name in ("train", "val", "test") for key in keys(module, name)]
    assert not {f"drawn_{i:09d}" for i in broken} & set(read)
    assert set(module.broken) <= {f"drawn_{i:09d}" for i in broken}
    assert f"{module.broken[0]}: no ink; the sample is left out" in caplog.messages
    for num_workers in (0, 1):
        with pytest.raises(DataOutageError, match="the archive is away"):
            keys(data(Drawn(away=True), num_workers=num_workers), "train")


def test_a_source_may_be_test_data_only_and_its_scenes_may_train_a_detector() -> None:
    module = data(test_source=Drawn(7), batch_size=3)
    assert sorted(keys(module, "test")) == [f"drawn_{i:09d}" for i in range(7)]
    scenes = SceneDataModule(source=Drawn(), size=tiny.SIZE, batch_size=2)
    scenes.setup()
    batch: Any = next(iter(scenes.val_dataloader()))
    assert batch.things[0, 0, 3:].tolist() == pytest.approx([0.2, 0.75, 0.2, 0.3])


def test_a_resume_needs_no_fingerprint_if_the_source_has_none() -> None:
    module = data()
    assert module.content() == {}
    assert module.changed_since({}) == ()


def test_a_folder_is_a_source_and_can_be_pickled(posters: Path) -> None:
    source = MarioFolder(str(posters))
    source.setup()
    copy = pickle.loads(pickle.dumps(source))
    assert (len(copy), copy.keys, copy.content()) == (40, source.keys, source.content())
    assert copy.read(3).caption == copy.read_texts(3).caption == source.read(3).caption
    first, second = data(MarioFolder(str(posters))), MarioDataModule(str(posters), tiny.SIZE, 4, max_objects=8)
    assert keys(first, "train") == keys(second, "train")
    assert first.content() == second.content() != {}


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ValueError, match="Drawn holds no sample"):
        data(Drawn(0)).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "root is None and source None; one of them is needed, not both"),
        ({"root": "posters", "source": Drawn()}, "root is 'posters' and source .*; one of them is needed, not both"),
        ({"root": "a", "test_root": "b", "test_source": Drawn()}, "test_root is 'b' and test_source"),
        ({"source": Drawn(), "index": "a.txt"}, "index is 'a.txt'; it lists samples of root"),
        ({"source": Drawn(), "min_confidence": 0.5}, "min_confidence is 0.5; it is a setting of a folder"),
        ({"source": Drawn(), "max_outage": 5.0}, "max_outage is 5.0; it is a setting of a folder"),
    ],
)
def test_ineffective_or_missing_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarioDataModule(**arguments)


def test_a_configuration_gives_a_source_by_its_class(posters: Path, tmp_path: Path) -> None:
    config = str(configs_folder() / "mini/stage1_tlg.yaml")
    source = f"{MarioFolder.__module__}.{MarioFolder.__qualname__}"
    args = ["--config", config, "--data.root", "null", "--data.source", source, "--out", str(tmp_path)]
    built = cli.build([*args, "--data.source.root", str(posters), "--data.source.max_words", "6"], run=False)
    assert isinstance(built.datamodule, MarioDataModule)
    assert isinstance(built.datamodule.source, MarioFolder)
    assert built.datamodule.source.max_words == 6
    assert sorted(keys(built.datamodule, "val"))
