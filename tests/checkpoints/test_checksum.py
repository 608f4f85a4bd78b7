"""Test checksums with real damage: kills, full disks, truncation and flipped bits."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from vlad_lightning.checkpoints import checksum as checkpoints
from vlad_lightning.checkpoints.checksum import (
    MANIFEST,
    DamagedError,
    candidates,
    checksum_file,
    newest_valid,
    step_path,
    steps_of,
    verify,
    write_checksums,
)


def save(path: Path, step: int = 1, size: int = 1000) -> Path:
    content = {"global_step": step, "state_dict": {"w": torch.full((size,), float(step))}, "name": "x"}
    with checksum_file(path) as file:
        torch.save(content, file)  # type: ignore[arg-type]
    return path


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip a bit; the file gets a new modification time."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_torch_and_zip_read_a_file_with_a_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "a.ckpt", 7)
    verify(path)
    for mapped in (False, True):
        assert torch.load(path, weights_only=True, mmap=mapped)["global_step"] == 7
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"vlad-lightning sha256:")
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_the_checksum_is_the_sha256_of_all_bytes_before_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt")
    head = tmp_path / "head"
    head.write_bytes(path.read_bytes()[:-86])
    digest = subprocess.run(["sha256sum", head], capture_output=True, text=True, check=True).stdout[:64]
    assert path.read_bytes()[-64:].decode() == digest


def test_large_tensors_are_hashed_as_they_are_written(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", size=5_000_000)  # 20 MB in one write: another thread hashes it
    verify(path)
    flip(path, 11_000_000)
    with pytest.raises(DamagedError, match="SHA-256"):
        verify(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_anywhere_is_detected(seed: int, tmp_path: Path) -> None:
    path, draw = save(tmp_path / "a.ckpt"), random.Random(seed)
    ends = [0, path.stat().st_size - 1, path.stat().st_size - 65, path.stat().st_size - 87]
    flip(path, ends[seed] if seed < len(ends) else draw.randrange(path.stat().st_size), draw.randrange(8))
    with pytest.raises(DamagedError, match=r"a\.ckpt is damaged"):
        verify(path)


@pytest.mark.parametrize("seed", range(20))
def test_a_truncated_file_is_detected(seed: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt")
    size = path.stat().st_size
    os.truncate(
        path,
        [0, 1, size - 1, size - 64, size - 86, size - 88][seed] if seed < 6 else random.Random(seed).randrange(size),
    )
    with pytest.raises(DamagedError, match=r"a\.ckpt is damaged"):
        verify(path)


def test_extra_bytes_at_the_end_are_detected(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedError):
        verify(path)


def test_copies_links_and_moves_keep_their_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt")
    shutil.copy(path, tmp_path / "b.ckpt")
    os.link(path, tmp_path / "c.ckpt")
    path.rename(tmp_path / "d.ckpt")
    for name in "bcd":
        verify(tmp_path / f"{name}.ckpt")


def test_a_file_without_a_checksum_is_verified_by_its_zip_records(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"w": torch.rand(1000, generator=torch.Generator().manual_seed(0))}, path)
    verify(path)
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
    flip(path, record.header_offset + 2000)
    with pytest.raises(DamagedError, match="CRC-32"):
        verify(path)
    torch.save({"w": torch.zeros(1000)}, path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DamagedError):
        verify(path)


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(DamagedError, match="truncated, or no checkpoint"):
        verify(tmp_path / "x.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no\.ckpt does not exist"):
        verify(tmp_path / "no.ckpt")


@pytest.mark.parametrize("folder", [False, True])
def test_a_verified_file_is_not_read_again_until_it_changes(folder: bool, tmp_path: Path) -> None:
    path = sharded(tmp_path, 3) if folder else save(tmp_path / "a.ckpt")
    if folder:
        write_checksums(path)
    file, byte = (path / "meta.pt", 4) if folder else (path, 500)
    verify(path)
    facts = file.stat()
    flip(file, byte)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    verify(path)  # nothing shows that it has changed
    os.utime(file, ns=(0, facts.st_mtime_ns + 1))
    with pytest.raises(DamagedError):
        verify(path)


FORK = multiprocessing.get_context("fork")


def write_for_ever(path: Path, progress: Path) -> None:
    content = {"w": torch.ones(1_000_000)}
    for step in count(1):
        with checksum_file(path) as file:
            torch.save(content | {"global_step": step}, file)  # type: ignore[arg-type]
        progress.write_text(str(step))


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("place", ["disk", "/dev/shm"])
def test_kills_at_any_moment_leave_a_whole_file(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place != "disk" and not Path(place).is_dir():
        pytest.skip(f"no {place} here")
    folder = tmp_path / "stage" if place == "disk" else Path(place, f"vlad-{os.getpid()}")
    # the temporary folder is on another file system than the checkpoints
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm" if place == "disk" else str(tmp_path))
    folder.mkdir()
    path, progress, draw, halves = folder / "last.ckpt", tmp_path / "told", random.Random(0), 0
    try:
        for _ in range(25):
            progress.unlink(missing_ok=True)
            child = FORK.Process(target=write_for_ever, args=(path, progress))
            child.start()
            while not (progress.exists() and progress.read_text()):
                assert child.is_alive()
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            child.kill()
            child.join()
            step = int(progress.read_text() or 0)  # it may be killed while it writes the step
            verify(path)
            assert step == 0 or step_in(path) in (step, step + 1)
            left = {p.name for p in folder.iterdir()}
            assert left <= {"last.ckpt", ".last.ckpt.part"}
            halves += len(left) - 1
    finally:
        shutil.rmtree(folder)
    assert halves > 0  # some of the kills hit a save


def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(small_disk: Path) -> None:
    path = save(small_disk / "last.ckpt", 1, size=1_000_000)
    with pytest.raises(OSError, match="No space left") as caught:
        save(path, 2, size=1_500_000)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in small_disk.iterdir()] == ["last.ckpt"]
    verify(path)
    assert torch.load(path, weights_only=True)["global_step"] == 1
    save(path, 3, size=500_000)
    verify(path)


def save_as_the_limit_allows(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, resource.RLIM_INFINITY))
    save(path, 1, size=1_000)
    with pytest.raises(OSError, match="File too large"):
        save(path, 2, size=2_000_000)


def test_a_file_size_limit_is_treated_like_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    child = FORK.Process(target=save_as_the_limit_allows, args=(path,))  # the limit applies to a whole process
    child.start()
    child.join()
    assert child.exitcode == 0
    verify(path)
    assert step_in(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def sharded(folder: Path, step: int) -> Path:
    """Make a folder as torch.distributed.checkpoint and Lightning write it."""
    path = step_path(folder, step)
    (path / "inner").mkdir(parents=True)
    for name in (".metadata", "__0_0.distcp", "__1_0.distcp", "inner/x"):
        (path / name).write_bytes(f"{name} of {step}".encode())
    torch.save({"global_step": step}, path / "meta.pt")
    return path


def test_a_folder_with_checksums_is_whole_and_sha256sum_agrees(tmp_path: Path) -> None:
    path = sharded(tmp_path, 3)
    with pytest.raises(DamagedError, match=f"no {MANIFEST}, its save did not come to the end"):
        verify(path)
    write_checksums(path)
    verify(path)
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=path, check=True, capture_output=True)
    assert MANIFEST not in (path / MANIFEST).read_text()
    write_checksums(path)  # again, as if more files had been written
    verify(path)


@pytest.mark.parametrize("name", [".metadata", "__1_0.distcp", "inner/x", "meta.pt", MANIFEST])
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_damage_to_any_file_of_a_folder_is_detected(name: str, how: str, tmp_path: Path) -> None:
    path = sharded(tmp_path, 3)
    write_checksums(path)
    file = path / name
    if how == "flip":
        flip(file, 4)
    elif how == "truncate":
        os.truncate(file, file.stat().st_size - 3)
    else:
        file.unlink()
    with pytest.raises(DamagedError):
        verify(path)


def stage(folder: Path, *steps: int) -> Path:
    for step in steps:
        save(step_path(folder, step), step)
    os.link(step_path(folder, steps[-1]), folder / "last.ckpt")
    return folder


def step_in(path: Path | None) -> Any:
    return path and torch.load(path, weights_only=True)["global_step"]


def test_the_newest_checkpoint_is_found_or_none(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert newest_valid(tmp_path / "nowhere") is None
    assert newest_valid(tmp_path) is None
    assert newest_valid(stage(tmp_path, 1, 2, 10)) == tmp_path / "last.ckpt"
    assert step_in(tmp_path / "last.ckpt") == 10
    assert [path.name for path in candidates(tmp_path)] == ["last.ckpt", "step-000000002.ckpt", "step-000000001.ckpt"]
    assert not recwarn.list


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    stage(tmp_path, 1, 2, 10)
    os.truncate(tmp_path / "last.ckpt", 300)  # this also truncates the file of step 10, a hard link
    with pytest.warns(UserWarning, match=r"last.ckpt is damaged: .*; .*step-000000002.ckpt is taken in its place"):
        assert step_in(newest_valid(tmp_path)) == 2
    flip(step_path(tmp_path, 2), 400)
    with pytest.warns(UserWarning, match=r"last.ckpt is damaged.*step-000000002.ckpt is damaged"):
        assert step_in(newest_valid(tmp_path)) == 1
    flip(step_path(tmp_path, 1), 400)
    with pytest.raises(DamagedError, match="Remove it to start over"):
        newest_valid(tmp_path)


def test_leftovers_of_a_kill_and_other_files_are_no_candidates(tmp_path: Path) -> None:
    stage(tmp_path, 5)
    for name in (".new.ckpt", "..new.ckpt.part", "step-7.ckpt.part", "epoch=1.ckpt", "hpc_ckpt_1.ckpt", "config.yaml"):
        (tmp_path / name).write_bytes(b"x")
    assert steps_of(tmp_path) == {5: step_path(tmp_path, 5)}
    assert newest_valid(tmp_path) == tmp_path / "last.ckpt"


def test_a_checkpoint_that_is_not_accepted_is_skipped(tmp_path: Path) -> None:
    stage(tmp_path, 1, 2, 3)
    assert step_in(newest_valid(tmp_path, lambda path: step_in(path) < 3)) == 2
    assert newest_valid(tmp_path, lambda path: False) is None


def test_folders_and_files_fall_back_alike(tmp_path: Path) -> None:
    save(step_path(tmp_path, 1), 1)
    for step in (2, 3):
        write_checksums(sharded(tmp_path, step))
    (tmp_path / "last.ckpt").symlink_to("step-000000003.ckpt")
    assert newest_valid(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt" / MANIFEST).unlink()
    with pytest.warns(UserWarning, match="did not come to the end"):
        assert newest_valid(tmp_path) == step_path(tmp_path, 2)


def test_a_folder_whose_manifest_is_a_pipe_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checksums(sharded(tmp_path, step))
    (step_path(tmp_path, 2) / MANIFEST).unlink()
    os.mkfifo(step_path(tmp_path, 2) / MANIFEST)
    with pytest.warns(UserWarning, match=rf"step-000000002.ckpt is damaged: {MANIFEST} is no text file"):
        assert newest_valid(tmp_path) == step_path(tmp_path, 1)


def test_unreadable_checkpoints_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, 1, 2)
    (tmp_path / "last.ckpt").unlink()
    (tmp_path / "last.ckpt").symlink_to("nowhere.ckpt")
    os.mkfifo(step_path(tmp_path, 9))
    step_path(tmp_path, 8).symlink_to("nowhere.ckpt")
    with pytest.warns(UserWarning, match=r"does not exist; it is a link to nowhere.*neither a file nor a folder"):
        assert step_in(newest_valid(tmp_path)) == 2
    read = checkpoints._hash_of_first

    def fail(file: FileIO, length: int) -> str:
        if Path(str(file.name)).name == step_path(tmp_path, 2).name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file.name))
        return read(file, length)

    monkeypatch.setattr(checkpoints, "_hash_of_first", fail)
    checkpoints._check_file.cache_clear()
    with pytest.warns(UserWarning, match=r"Input/output error: .*step-000000002.ckpt.*step-000000001.ckpt is taken"):
        assert step_in(newest_valid(tmp_path)) == 1
    step_path(tmp_path, 1).unlink()
    with pytest.raises(DamagedError, match="no whole checkpoint in"):
        newest_valid(tmp_path)
