"""A data folder that is unavailable for a while costs time, but no sample."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario import key_of, list_samples
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.scan import scan
from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.data.source import DataOutageError
from vlad_lightning.layout.glyphs import Rasterizer


@pytest.fixture
def root(posters: Path, tmp_path: Path) -> Path:
    shutil.copytree(posters, tmp_path / "posters")
    return tmp_path / "posters"


def samples(root: Path, max_outage: float) -> MarioDataset:
    return MarioDataset(folder(root, max_outage), 8, 2, 8, Rasterizer())


def folder(root: Path, max_outage: float) -> MarioFolder:
    source = MarioFolder(str(root), max_outage=max_outage)
    source.setup()
    return source


def data_loaders(data: MarioDataModule) -> tuple[Iterable[Any], ...]:
    test = data.test_dataloader()
    assert not isinstance(test, list)
    return data.train_dataloader(), data.val_dataloader(), test


def later(act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.5, act)
    timer.start()
    return timer


def test_a_folder_that_is_away_for_a_moment_breaks_no_sample(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = samples(root, 60)
    caplog.clear()
    away = root.with_name("away")
    root.rename(away)
    back = later(lambda: away.rename(root))
    assert [data[i].key for i in range(3)] == ["00000_000000000", "00000_000000001", "00000_000000002"]
    back.join()
    assert data.broken == ()
    assert [m.split(str(root))[1][:39] for m in caplog.messages] == [
        " cannot be read; waiting for up to 60 s",
        " can be read again",
    ]


def test_an_unmounted_disk_is_waited_for(root: Path) -> None:
    data = samples(root, 60)
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()

    def mount() -> None:
        root.rmdir()
        away.rename(root)

    back = later(mount)
    assert data[5].key == "00000_000000005"
    back.join()
    assert data.broken == ()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("module", [MarioDataModule, SceneDataModule])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_folder_that_stays_away_is_one_clear_error(
    root: Path, num_workers: int, module: type[MarioDataModule]
) -> None:
    data = module(str(root), size=8, max_outage=0.3, num_workers=num_workers)
    data.setup()
    shutil.rmtree(root)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(
            DataOutageError, match=rf"^the data folder {root} could not be read for 0.3 s \(data.max_outage\): .*\Z"
        ):
            next(iter(loader))
    assert data.broken == ()


def test_a_folder_that_is_away_after_its_scan_keeps_its_scenes(root: Path) -> None:
    """It disappears when the scan reports its findings, before the scenes are read."""
    folders, away, timers = list_samples(root), root.with_name("away"), []
    (folders[3] / "scene.json").unlink()

    class Gone(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "are usable" in record.getMessage():
                root.rename(away)
                timers.append(later(lambda: away.rename(root)))

    logger, handler = logging.getLogger("lightning.pytorch.utilities.rank_zero"), Gone()
    logger.addHandler(handler)
    try:
        data = SceneDataModule(str(root), size=8, batch_size=1, max_outage=60)
        data.setup()
    finally:
        logger.removeHandler(handler)
    assert len(timers) == 1
    found = {key for loader in data_loaders(data) for batch in loader for key in batch.keys}
    assert found == {key_of(folder) for folder in folders} - {key_of(folders[3])}


def test_captions_are_read_after_an_outage_and_removed_ones_are_left_out(root: Path) -> None:
    data = MarioDataModule(str(root), size=8, max_outage=60)
    whole = data.captions()
    gone = next(folder for folder in list_samples(root) if (folder / "caption.txt").read_text() in whole)
    shutil.rmtree(gone)
    away = root.with_name("away")
    root.rename(away)
    back = later(lambda: away.rename(root))
    assert len(data.captions()) == len(whole) - 1
    back.join()


def test_a_removed_sample_is_broken_at_once_and_others_are_not(root: Path) -> None:
    data = samples(root, 3600)
    shutil.rmtree(root / f"00000/{1:09d}")
    (root / f"00000/{2:09d}/image.jpg").unlink()
    (root / f"00000/{3:09d}/image.jpg").write_bytes(b"no image")
    assert [data.read(i) is None for i in range(5)] == [False, True, True, True, False]
    assert data.broken == ("00000_000000001", "00000_000000002", "00000_000000003")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Make the system fail to read files, and folders with files, that exist."""
    paths: set[Path] = set()
    plain = Path.open

    def read(path: Path, *args: object, **options: object) -> object:
        if paths & {path, *path.parents}:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return plain(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", read)
    return paths


def test_a_disk_that_fails_for_a_moment_breaks_no_sample(root: Path, failing: set[Path]) -> None:
    data = samples(root, 60)
    failing.add(root)
    back = later(failing.clear)
    assert data[7].key == "00000_000000007"
    back.join()
    assert data.broken == ()


def test_a_file_on_a_bad_block_is_that_samples_fault(root: Path, failing: set[Path]) -> None:
    data = samples(root, 3600)
    failing.add(root / f"00000/{7:09d}")
    assert data.read(7) is None
    assert data.read(8) is not None
    assert data.broken == ("00000_000000007",)


def test_an_unreadable_scene_is_not_treated_as_missing(root: Path, failing: set[Path]) -> None:
    data = samples(root, 3600)
    failing.add(root / f"00000/{7:09d}/scene.json")
    assert data.read(7) is None
    assert data.broken == ("00000_000000007",)


@pytest.mark.parametrize("away", [True, False])
def test_a_scan_waits_and_counts_no_sample_as_bad(root: Path, failing: set[Path], away: bool) -> None:
    folders, aside = list_samples(root), root.with_name("away")
    if away:
        root.rename(aside)
    else:
        failing.add(root)
    back = later(lambda: aside.rename(root) if away else failing.clear())
    usable, report = scan(str(root), folders, 0.3, 4, max_outage=60)
    back.join()
    assert (usable, report.skipped) == (folders, {})
    shutil.rmtree(root)
    with pytest.raises(DataOutageError, match="could not be read for 0 s"):
        scan(str(root), folders, 0.3, 4, max_outage=0)
