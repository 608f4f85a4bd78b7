"""Test names, retention and failures of checkpoints in real fits of one weight."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlad_lightning.checkpoints import Checkpoints, DurableCheckpointIO
from vlad_lightning.checkpoints import folder as checkpoint_folder
from vlad_lightning.checkpoints.checksum import DamagedError, newest_valid, step_path, steps_of, verify
from vlad_lightning.checkpoints.fit_lock import take
from vlad_lightning.health import EMA

FORK = multiprocessing.get_context("fork")


class Point(LightningModule):
    """``place`` decreases by 0.1 per step; ``frozen`` only takes space."""

    def __init__(self, room: int = 10) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(room), requires_grad=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.place * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.place], 0.1)


def fit(
    callback: Checkpoints,
    steps: int,
    resume: Path | None = None,
    room: int = 10,
    more: tuple[Any, ...] = (),
    **changes: Any,
) -> Trainer:
    settings: dict[str, Any] = {"enable_checkpointing": True, "check_val_every_n_epoch": None}
    settings |= {"plugins": [DurableCheckpointIO()], "callbacks": [callback, *more]} | changes
    trainer = tiny.trainer(steps, **settings)
    loader: DataLoader[Any] = DataLoader(torch.ones(50, 2), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(Point(room), loader, ckpt_path=resume, weights_only=True)
    return trainer


def step_in(path: Path) -> int:
    """Return the step of a checkpoint, and check that its weights are of that step."""
    verify(path)
    saved = torch.load(path, weights_only=True)
    torch.testing.assert_close(saved["state_dict"]["place"], torch.full((2,), 1 - 0.1 * saved["global_step"]))
    return int(saved["global_step"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_newest_few_are_kept_and_some_for_ever(asynchronous: bool, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    fit(Checkpoints(str(folder), 2, keep=2, keep_every=6, asynchronous=asynchronous), 13)
    assert sorted(steps_of(folder)) == [6, 12, 13]  # 12 is one of the newest two and a multiple of six
    assert len(names(folder)) == 4
    assert [step_in(path) for _, path in sorted(steps_of(folder).items())] == [6, 12, 13]
    last = folder / "last.ckpt"
    assert step_in(last) == 13
    assert last.samefile(step_path(folder, 13))  # a second name, not a second file
    assert not last.is_symlink()
    moved = folder.rename(tmp_path / "moved")
    assert step_in(moved / "last.ckpt") == 13


@pytest.mark.parametrize(("steps", "every", "kept"), [(6, 3, [3, 6]), (7, 3, [6, 7]), (2, 5, [2]), (4, None, [4])])
def test_last_ckpt_is_of_the_last_step(steps: int, every: int | None, kept: list[int], tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path), every), steps)
    assert sorted(steps_of(tmp_path)) == kept
    assert step_in(tmp_path / "last.ckpt") == steps


def test_accumulated_batches_count_as_one_step(tmp_path: Path) -> None:
    callback = Checkpoints(str(tmp_path), 1, keep=9)
    fit(callback, 3, accumulate_grad_batches=4)
    assert sorted(steps_of(tmp_path)) == [1, 2, 3]


def test_a_resumed_fit_continues_in_its_folder(tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path), 2, keep=3), 4)
    fit(Checkpoints(str(tmp_path), 2, keep=3), 8, resume=tmp_path / "last.ckpt")
    assert sorted(steps_of(tmp_path)) == [4, 6, 8]
    assert step_in(tmp_path / "last.ckpt") == 8


def test_resuming_earlier_removes_later_checkpoints_and_starting_again_removes_all(tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path), 2, keep=9), 8)
    fit(Checkpoints(str(tmp_path), 1, keep=9), 5, resume=step_path(tmp_path, 4))
    assert sorted(steps_of(tmp_path)) == [2, 4, 5]
    assert step_in(tmp_path / "last.ckpt") == 5
    fit(Checkpoints(str(tmp_path), 3, keep=9, overwrite=True), 3)
    assert sorted(steps_of(tmp_path)) == [3]
    assert step_in(tmp_path / "last.ckpt") == 3
    elsewhere = tmp_path / "elsewhere"
    fit(Checkpoints(str(elsewhere), 2, keep=9), 2)
    again = Checkpoints(str(elsewhere), 2, keep=9, overwrite=True)
    fit(again, 4, resume=tmp_path / "last.ckpt")  # from another folder: another run
    assert sorted(steps_of(elsewhere)) == [4]


def test_an_earlier_fit_is_not_removed_without_permission(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "a", tmp_path / "b"
    fit(Checkpoints(str(folder), 2, keep_every=2), 4)
    fit(Checkpoints(str(elsewhere)), 1)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for resume in (None, elsewhere / "last.ckpt"):
        with pytest.raises(ValueError, match=rf"{folder} holds .*up to step 4.*last goes on.*overwrite true starts"):
            fit(Checkpoints(str(folder), 1), 2, resume=resume, more=(Break(0),))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    for path in steps_of(folder).values():
        path.unlink()
    with pytest.raises(ValueError, match=r"up to last\.ckpt"):
        fit(Checkpoints(str(folder), 1), 2)
    fit(Checkpoints(str(folder), 1, enabled=False), 2)


def test_resuming_a_finished_fit_writes_nothing(tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path), 2), 4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    fit(Checkpoints(str(tmp_path), 2), 4, resume=tmp_path / "last.ckpt")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_an_earlier_last_ckpt_of_any_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").mkdir()
    (tmp_path / "last.ckpt" / "x").touch()
    fit(Checkpoints(str(tmp_path), overwrite=True), 1)
    assert step_in(tmp_path / "last.ckpt") == 1


def test_without_hard_links_last_is_a_relative_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = tmp_path / "stage"
    fit(Checkpoints(str(folder), 2), 5)
    assert sorted(steps_of(folder)) == [4, 5]
    assert (folder / "last.ckpt").readlink() == Path("step-000000005.ckpt")
    folder.rename(tmp_path / "moved")
    assert step_in(tmp_path / "moved" / "last.ckpt") == 5


def test_without_a_folder_nothing_is_saved(tmp_path: Path) -> None:
    fit(Checkpoints(), 1, default_root_dir=tmp_path / "a")
    assert names(tmp_path / "a" / "checkpoints") == ["last.ckpt", "step-000000001.ckpt"]
    other = ModelCheckpoint(tmp_path / "b", save_last=True, save_top_k=0)
    fit(Checkpoints(every_n_steps=1), 2, more=(other,), default_root_dir=tmp_path / "c")
    assert names(tmp_path / "b") == ["last.ckpt"]
    assert not (tmp_path / "c").exists()
    fit(Checkpoints(str(tmp_path / "d"), 1), 1, fast_dev_run=1)
    assert not (tmp_path / "d").exists()


def test_other_commands_write_nothing(tmp_path: Path) -> None:
    callback = Checkpoints(str(tmp_path / "x"), 1)
    trainer = tiny.trainer(callbacks=[callback], enable_checkpointing=True, plugins=[DurableCheckpointIO()])
    callback.setup(trainer, Point(), "test")
    callback.teardown(trainer, Point(), "test")
    assert not (tmp_path / "x").exists()
    with pytest.raises(RuntimeError, match="no fit that writes"):
        callback.save(trainer)


@pytest.mark.parametrize(("name", "value"), [("every_n_steps", 0), ("keep", 0), ("keep_every", -1)])
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"checkpoints.{name} is {value}; it must be at least"):
        Checkpoints(**{name: value})  # type: ignore[arg-type]


def test_another_plugin_cannot_save_in_the_background(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="asynchronous needs the plugin"):
        fit(Checkpoints(str(tmp_path), asynchronous=True), 1, plugins=[])
    fit(Checkpoints(str(tmp_path), 1), 2, plugins=[])  # Lightning's own saving works too
    assert sorted(steps_of(tmp_path)) == [1, 2]
    verify(tmp_path / "last.ckpt")


class FolderIO(CheckpointIO):
    """Writes folders like the sharding strategies."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path.mkdir()
        torch.save(checkpoint.pop("state_dict"), path / "__0_0.distcp")
        torch.save(checkpoint, path / "meta.pt")
        (path / ".metadata").touch()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        verify(Path(path))
        return {**torch.load(Path(path, "meta.pt")), "state_dict": torch.load(Path(path, "__0_0.distcp"))}

    def remove_checkpoint(self, path: Any) -> None:
        raise NotImplementedError


def test_folders_have_checksums_and_the_same_retention(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    fit(Checkpoints(str(stage), 2), 3)
    (stage / ".new.ckpt").mkdir()  # left by a kill
    fit(Checkpoints(str(stage), 2, overwrite=True), 7, plugins=[FolderIO()])
    assert names(stage) == ["last.ckpt", "step-000000006.ckpt", "step-000000007.ckpt"]
    assert (stage / "last.ckpt").readlink() == Path("step-000000007.ckpt")
    stage.rename(tmp_path / "moved")
    last = tmp_path / "moved" / "last.ckpt"
    verify(last)
    fit(Checkpoints(str(tmp_path / "moved"), 2), 9, resume=last, plugins=[FolderIO()])
    assert sorted(steps_of(tmp_path / "moved")) == [8, 9]
    torch.testing.assert_close(torch.load(last / "__0_0.distcp")["place"], torch.full((2,), 0.1))
    (last / "meta.pt").unlink()
    with pytest.warns(UserWarning, match=r"meta.pt is missing"):
        assert newest_valid(tmp_path / "moved") == step_path(tmp_path / "moved", 8)


class Twice(Callback):
    """Saves a step a second time, as an interruption may."""

    def __init__(self, own: Checkpoints) -> None:
        self.own = own

    def on_before_zero_grad(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            self.own.save(trainer)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_that_is_saved_again_exists_while_it_is_replaced(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:  # a file system that cannot
        monkeypatch.setattr(checkpoint_folder, "_exchange", lambda one, other: False)
    own, removed, rmtree = Checkpoints(str(tmp_path), 2), [], shutil.rmtree

    def watched(path: Path, **options: bool) -> None:
        if Path(path).is_dir():  # the old one is removed last
            verify(tmp_path / "last.ckpt")
            removed.append(path)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    fit(own, 3, more=(Twice(own),), plugins=[FolderIO()])
    assert len(removed) == 1
    assert names(tmp_path) == ["last.ckpt", "step-000000002.ckpt", "step-000000003.ckpt"]
    verify(step_path(tmp_path, 2))


def test_the_name_of_the_run_is_in_the_checkpoint(tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path), run="abc"), 1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["Checkpoints"] == {"run": "abc"}


def test_in_the_background_the_same_bytes_are_written(tmp_path: Path) -> None:
    """This holds too if the EMA shares the storage of frozen weights: there is no second copy of it."""
    for asynchronous in (False, True):
        torch.manual_seed(0)
        fit(
            Checkpoints(str(tmp_path / str(asynchronous)), 3, asynchronous=asynchronous),
            7,
            room=50_000,
            more=(EMA(0.5),),
        )
    for name in ("step-000000006.ckpt", "last.ckpt"):
        first, second = ((tmp_path / str(flag) / name).read_bytes() for flag in (False, True))
        assert first == second
        assert len(first) < 300_000  # 200,000 of them are `frozen`, once


class Fill(Callback):
    """Fills the disk at one step and frees it at another, like other users of the disk."""

    def __init__(self, folder: Path, full: int, free: int, size: int = 6_000_000) -> None:
        self.file, self.full, self.free, self.size = folder / "others", full, free, size

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.full:
            with suppress(OSError):
                self.file.write_bytes(bytes(self.size))
        elif trainer.global_step == self.free:
            self.file.unlink()


ROOM = 400_000  # 1.6 MB per checkpoint: two are kept while a third is written


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_is_a_warning_while_later_saves_succeed(asynchronous: bool, small_disk: Path) -> None:
    folder = small_disk / "stage"
    fill = Fill(small_disk, full=3, free=7)
    with pytest.warns(UserWarning, match=r"could not be written to .*stage \(.*GB free\): .*No space left.*goes on"):
        trainer = fit(Checkpoints(str(folder), 2, asynchronous=asynchronous), 9, room=ROOM, more=(fill,))
    assert trainer.global_step == 9
    assert sorted(steps_of(folder)) == [8, 9]
    assert step_in(folder / "last.ckpt") == 9


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_at_the_end_is_an_error_and_keeps_the_checkpoint(asynchronous: bool, small_disk: Path) -> None:
    folder = small_disk / "stage"
    fill = Fill(small_disk, full=3, free=99)
    with (
        pytest.warns(UserWarning, match="No space left"),
        pytest.raises(OSError, match=r"the last checkpoint could not be written: .*No space left"),
    ):
        fit(Checkpoints(str(folder), 2, asynchronous=asynchronous), 6, room=ROOM, more=(fill,))
    assert names(folder) == ["last.ckpt", "step-000000002.ckpt"]  # no partial file takes space
    assert step_in(folder / "last.ckpt") == 2
    (small_disk / "others").unlink()
    fit(Checkpoints(str(folder), 2), 6, resume=folder / "last.ckpt", room=ROOM)
    assert step_in(folder / "last.ckpt") == 6


def test_a_read_only_folder_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    steps = Break(0)
    with pytest.raises(OSError, match=r"checkpoints cannot be written to .*file/stage: .*Not a directory"):
        fit(Checkpoints(str(tmp_path / "file" / "stage"), 2), 4, more=(steps,))
    assert names(tmp_path) == ["file"]
    fit(Checkpoints(str(tmp_path / "stage"), 2), 1)
    assert names(tmp_path / "stage") == ["last.ckpt", "step-000000001.ckpt"]  # the test write leaves nothing


class Vanish(Callback):
    """Removes the folder, as a clean-up of the disk may, and puts something else there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 3:
            shutil.rmtree(self.folder)
            self.folder.touch()
        elif trainer.global_step == 5:
            self.folder.unlink()


def test_a_folder_that_vanishes_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "stage"
    with pytest.warns(UserWarning, match=r"could not be written to .*stage \(.* GB free\)"):
        fit(Checkpoints(str(folder), 2), 6, more=(Vanish(folder.parent),))
    assert names(folder) == ["last.ckpt", "step-000000006.ckpt"]


class Anothers(ModelCheckpoint):
    """Lightning's own callback, which keeps one checkpoint: it removes the earlier one after the new one."""

    removed = 0

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        assert self.dirpath
        verify(Path(self.dirpath, f"step={trainer.global_step}.ckpt"))
        super()._remove_checkpoint(trainer, filepath)
        self.removed += 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_saves_of_other_callbacks_are_not_changed(asynchronous: bool, small_disk: Path) -> None:
    """They are written when they return, and end the fit if they fail."""
    other = Anothers(small_disk / "other", filename="{step}", every_n_train_steps=1, enable_version_counter=False)
    own = Checkpoints(str(small_disk / "own"), 1, asynchronous=asynchronous)
    with (
        pytest.warns(UserWarning, match="could not be written to .*own"),
        pytest.raises(OSError, match="No space left"),
    ):
        fit(own, 9, more=(Fill(small_disk, 4, 99, 9_000_000), other))
    assert other.removed == 3
    assert names(small_disk / "other") == ["step=4.ckpt"]  # step 5's failed


class Break(Callback):
    def __init__(self, at: int = 5) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.at:
            raise ZeroDivisionError("the training itself")


def test_a_full_disk_does_not_hide_the_error_that_ended_the_fit(small_disk: Path) -> None:
    with pytest.warns(UserWarning, match="No space left"), pytest.raises(ZeroDivisionError):
        fit(Checkpoints(str(small_disk / "s"), 2), 9, room=ROOM, more=(Fill(small_disk, 3, 99), Break()))


def fit_for_ever(folder: Path, asynchronous: bool) -> None:
    warnings.simplefilter("ignore")
    saves = Checkpoints(str(folder), 1, keep=2, keep_every=40, asynchronous=asynchronous)
    fit(saves, 10_000, resume=newest_valid(folder), room=500_000, max_epochs=-1)


@pytest.mark.slow
@pytest.mark.no_cover
def test_kills_at_random_moments_never_lose_the_run(tmp_path: Path) -> None:
    """Save at each step, so that nearly every kill hits a save. The same command resumes each time."""
    draw, before = random.Random(1), 0
    for turn in range(6):
        child = FORK.Process(target=fit_for_ever, args=(tmp_path, turn % 2 == 1))
        child.start()
        while max(steps_of(tmp_path), default=0) <= before + 2:
            assert child.is_alive(), "it ended by itself"
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))
        child.kill()
        child.join()
        with warnings.catch_warnings(action="error"):  # a damaged checkpoint is reported as a warning
            found = newest_valid(tmp_path)
        assert found == tmp_path / "last.ckpt"
        step = step_in(found)
        assert step > before
        assert step >= max(steps_of(tmp_path))  # no finished checkpoint is lost
        for path in steps_of(tmp_path).values():
            verify(path)
        before = step


def test_a_damaged_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    fit(Checkpoints(str(tmp_path)), 2)
    last = tmp_path / "last.ckpt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 4
    last.write_bytes(data)
    with pytest.raises(DamagedError, match=r"last\.ckpt is damaged"):
        fit(Checkpoints(str(tmp_path)), 4, resume=last)


def take_what_is_held(folder: Path, holder: int) -> None:
    with pytest.raises(ValueError, match=f"is being written by another fit, process {holder} on"):
        take(folder)


def test_a_folder_serves_one_fit_at_a_time(tmp_path: Path) -> None:
    class Other(Callback):
        """Another process begins a fit in the same folder."""

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            held = json.loads((tmp_path / ".fit.lock").read_text())
            assert (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
            other = FORK.Process(target=take_what_is_held, args=(tmp_path, os.getpid()))
            other.start()
            other.join()
            assert other.exitcode == 0

    fit(Checkpoints(str(tmp_path)), 1, more=(Other(),))
    assert not (tmp_path / ".fit.lock").exists()


def test_a_failed_fit_releases_the_folder(tmp_path: Path) -> None:
    class Failing(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert (tmp_path / ".fit.lock").exists()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fit(Checkpoints(str(tmp_path)), 1, more=(Failing(),))
    assert not (tmp_path / ".fit.lock").exists()


def test_a_fit_does_not_start_in_the_folder_of_a_running_one(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        held = {"host": socket.gethostname(), "pid": other.pid}
        (tmp_path / ".fit.lock").write_text(json.dumps(held))
        with pytest.raises(ValueError, match=f"another fit, process {other.pid} on"):
            fit(Checkpoints(str(tmp_path)), 1)
        assert json.loads((tmp_path / ".fit.lock").read_text()) == held
        other.communicate(b"\n")
    with pytest.warns(UserWarning, match="this fit takes it over"):
        fit(Checkpoints(str(tmp_path)), 1)
    assert step_in(tmp_path / "last.ckpt") == 1
