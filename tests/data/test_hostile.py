"""Hostile samples are used or skipped by name, and nothing hangs; hostile_run.py runs the commands on them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from data.hostile import KINDS, Kind, add_clutter, seen, write_hostile

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mario import key_of
from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.data.synthetic.synthetic import write_posters

GOOD = 70  # together with the hostile ones, more than a scan decodes
SMALL = tuple(kind for kind in KINDS if not kind.large)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of good samples, and entries that are not samples."""
    folder = tmp_path_factory.mktemp("hostile") / "posters"
    write_posters(folder, samples=GOOD, size=48, seed=0, workers=1)
    (folder / "00001").mkdir()
    add_clutter(folder)
    return folder


@pytest.fixture(scope="module")
def made(root: Path) -> dict[Path, Kind]:
    return write_hostile(root, root / "00000/000000000", SMALL)


@pytest.mark.timeout(120)
def test_each_kind_is_used_or_skipped_for_its_reason(root: Path, made: dict[Path, Kind]) -> None:
    found = {kind.name: seen(root, folder) for folder, kind in made.items()}
    assert found == {kind.name: kind.expected for kind in SMALL}


@pytest.mark.timeout(120)
def test_an_epoch_has_every_sample_that_can_be_used(
    root: Path, made: dict[Path, Kind], caplog: pytest.LogCaptureFixture
) -> None:
    data = MarioDataModule(str(root), size=32, batch_size=4, max_words=6, val_share=0.2, test_share=0.2, num_workers=1)
    with caplog.at_level(logging.WARNING):
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        keys = {key for loader in loaders for batch in loader for key in batch.keys}
    used = {key_of(folder) for folder, kind in made.items() if not kind.skipped}
    skipped = {key_of(folder) for folder, kind in made.items() if kind.skipped}
    assert keys & skipped == set()
    assert len(used - keys) < 4  # the samples that do not fill a batch
    assert len(data.broken) + sum(data.source.report.skipped.values()) == len(skipped)
    assert set(data.broken) <= skipped
    assert not Path("pickle-was-run").exists()


@pytest.mark.timeout(120)
def test_the_object_detector_reads_samples_with_a_scene(root: Path, made: dict[Path, Kind]) -> None:
    data = SceneDataModule(str(root), size=32, batch_size=1, val_share=0.2, test_share=0.2)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    found = {key for loader in loaders for batch in loader for key in batch.keys}
    hostile = {key_of(folder): kind for folder, kind in made.items()}
    assert found & hostile.keys() == {key for key, kind in hostile.items() if kind.for_detector}
