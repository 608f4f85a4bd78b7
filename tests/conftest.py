from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from vlad_lightning.data.synthetic.synthetic import write_posters


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: if processes share the files, the last one to end should be short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def first_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the rank: a trainer of rank 1 makes its process rank 1 for good, which would silence all later warnings."""
    monkeypatch.setattr(rank_zero_only, "rank", getattr(rank_zero_only, "rank", 0))


@pytest.fixture(scope="session", autouse=True)
def devices() -> Iterator[None]:
    """Notice a test that, as root, replaces a device by a file: every later program would suffer."""
    yield
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode), f"a test has replaced {os.devnull} by a file"


@pytest.fixture(scope="session")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of 40 synthetic posters of 64 px in MARIO's format."""
    folder = tmp_path_factory.mktemp("posters") / "train"
    write_posters(folder, samples=40, size=64, seed=0, workers=1, charseg=False)
    return folder


@pytest.fixture(scope="session")
def lettered_posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of 24 such posters with their maps of characters."""
    folder = tmp_path_factory.mktemp("lettered") / "train"
    write_posters(folder, samples=24, size=64, seed=1, workers=1, charseg=True)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
