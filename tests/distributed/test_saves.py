"""Test sharded saves that fail: they fail on every process, and the fit continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distributed.processes import run_processes

from vlad_lightning.checkpoints.checksum import verify
from vlad_lightning.checkpoints.folder import read_metadata

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROCESS = Path(__file__).with_name("save_process.py")


def step(number: int) -> str:
    return f"step-{number:09d}.ckpt"


@pytest.fixture(scope="module")
def out(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saves")
    run_processes(2, PROCESS, str(posters), str(folder), limit=500)
    return folder


def test_a_full_disk_and_an_unshared_folder_keep_the_newest_whole_checkpoint(out: Path) -> None:
    seen = {int(at): names for at, names in json.loads((out / "seen0.json").read_text()).items()}
    first = ["last.ckpt", step(1)]
    assert [seen[at] for at in range(1, 6)] == [first] * 5  # no partial file takes space
    assert seen[6] == ["last.ckpt", step(1), step(6)]
    assert sorted(path.name for path in (out / "goes_on").iterdir()) == ["last.ckpt", step(6), step(7)]
    assert read_metadata(out / "goes_on" / "last.ckpt")["global_step"] == 7
    verify(out / "goes_on" / "last.ckpt")
    assert json.loads((out / "seen1.json").read_text()).keys() == {str(at) for at in seen}  # both reached the end


def test_both_processes_get_the_error_of_the_last_save(out: Path) -> None:
    told = {(out / f"ended{rank}.txt").read_text() for rank in (0, 1)}
    assert len(told) == 1
    assert "the last checkpoint could not be written: [Errno 28] No space left on device (process 1)" in told.pop()
    assert sorted(path.name for path in (out / "ends").iterdir()) == ["last.ckpt", step(1)]
