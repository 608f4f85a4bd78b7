from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlad_lightning.checkpoints.checksum import DamagedError, verify
from vlad_lightning.checkpoints.io import DurableCheckpointIO, snapshot


class Point(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(2))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.place * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, steps: int, every: int, resume: str | None = None) -> None:
    """A real fit under the two callbacks of the shipped configurations."""
    settings: dict[str, Any] = {"save_last": True, "save_top_k": 0, "enable_version_counter": False}
    end = ModelCheckpoint(folder, **settings)
    between = ModelCheckpoint(folder, every_n_train_steps=every, **settings)
    changes = {"enable_checkpointing": True, "check_val_every_n_epoch": None, "default_root_dir": folder}
    trainer = tiny.trainer(steps, callbacks=[end, between], plugins=[DurableCheckpointIO()], **changes)
    loader: DataLoader[Any] = DataLoader(torch.ones(50, 2), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(Point(), loader, ckpt_path=resume, weights_only=True)


def step_of(folder: Path) -> int:
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert torch.allclose(saved["state_dict"]["place"], torch.full((2,), 1 - 0.1 * saved["global_step"]))
    return int(saved["global_step"])


@pytest.mark.parametrize(("steps", "every"), [(6, 3), (7, 3), (2, 5)], ids=["multiple", "no multiple", "fewer"])
def test_last_ckpt_is_of_the_last_step(steps: int, every: int, tmp_path: Path) -> None:
    fit(tmp_path, steps, every)
    assert step_of(tmp_path) == steps


def test_another_fit_and_a_resumed_fit_replace_last_ckpt(tmp_path: Path) -> None:
    fit(tmp_path, 4, 3)
    fit(tmp_path, 9, 4, resume=str(tmp_path / "last.ckpt"))
    assert step_of(tmp_path) == 9
    fit(tmp_path, 5, 2)
    assert step_of(tmp_path) == 5


class Kill:
    """A value that kills the process when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        return (str, ("not reached",))


def fit_that_dies(folder: Path) -> None:
    """Fit; the process dies in its second save, at step 6, when half is on the disk."""
    torch.set_num_threads(1)  # OpenMP would wait for the threads of the process that forked
    save = Trainer.save_checkpoint

    def dying(self: Trainer, *args: Any, **kwargs: Any) -> None:
        if self.global_step == 6:
            connector = self._checkpoint_connector
            inner = connector.dump_checkpoint
            content = {"weights": torch.ones(99999), "x": Kill()}
            connector.dump_checkpoint = lambda only: inner(only) | content  # type: ignore[method-assign]
        save(self, *args, **kwargs)

    Trainer.save_checkpoint = dying  # type: ignore[method-assign]
    fit(folder, 10, 3)


def test_a_kill_during_a_save_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=fit_that_dies, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (tmp_path / ".last.ckpt.part").unlink()
    assert step_of(tmp_path) == 3


def test_a_failed_save_leaves_only_the_earlier_checkpoint(tmp_path: Path) -> None:
    saver = DurableCheckpointIO()
    saver.save_checkpoint({"step": 1}, tmp_path / "new" / "x.ckpt")
    with pytest.raises((AttributeError, TypeError)):
        saver.save_checkpoint({"step": 2, "function": lambda: None}, tmp_path / "new" / "x.ckpt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.ckpt"]
    assert saver.load_checkpoint(tmp_path / "new" / "x.ckpt") == {"step": 1}


def test_lightning_writes_to_other_file_systems(tmp_path: Path) -> None:
    DurableCheckpointIO().save_checkpoint({"step": 1}, f"file://{tmp_path}/x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True) == {"step": 1}
    with pytest.raises(ValueError, match="is an address"):
        DurableCheckpointIO().load_checkpoint(f"file://{tmp_path}/x.ckpt")


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {}, "code": Code()}, tmp_path / "x.ckpt")
    with pytest.raises(UnpicklingError):
        DurableCheckpointIO().load_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_background_save_writes_the_state_at_the_time_of_the_save(tmp_path: Path) -> None:
    saver = DurableCheckpointIO()
    saver.asynchronous = True
    weight, state = torch.ones(1_000_000), {"lr": [0.1]}
    for step in range(3):
        saver.save_checkpoint({"weight": weight, "state": state, "step": step}, tmp_path / f"{step}.ckpt")
        weight.add_(1)
        state["lr"].append(step)
    saver.teardown()
    for step in range(3):
        verify(tmp_path / f"{step}.ckpt")
        saved = torch.load(tmp_path / f"{step}.ckpt", weights_only=True)
        assert saved["step"] == step
        assert (saved["weight"] == 1 + step).all()
        assert saved["state"] == {"lr": [0.1, *range(step)]}


class Slow:
    """A value that is slow to pickle and records when it is written."""

    now = most = 0

    def __reduce__(self) -> tuple[Any, ...]:
        import time

        Slow.now += 1
        Slow.most = max(Slow.most, Slow.now)
        time.sleep(0.1)
        Slow.now -= 1
        return (str, ("x",))

    def __deepcopy__(self, memo: object) -> Slow:
        return self


def test_saves_do_not_queue_up(tmp_path: Path) -> None:
    saver = DurableCheckpointIO()
    saver.asynchronous = True
    done: list[int] = []
    for step in range(3):
        saver.save_checkpoint({"x": Slow()}, tmp_path / "x.ckpt")
        assert len(done) == step  # the earlier one has been written, this one has not
        saver.after_save(lambda step=step: done.append(step), tmp_path / "x.ckpt")  # type: ignore[misc]
    saver.wait()
    assert (done, Slow.most) == ([0, 1, 2], 1)
    saver.teardown()


def test_a_background_error_is_raised_at_the_next_save_or_at_the_end(tmp_path: Path) -> None:
    saver = DurableCheckpointIO()
    saver.asynchronous = True
    done: list[int] = []
    saver.save_checkpoint({"f": lambda: None}, tmp_path / "x.ckpt")
    saver.after_save(lambda: done.append(1), tmp_path / "x.ckpt")
    with pytest.raises((AttributeError, TypeError)):
        saver.save_checkpoint({"step": 2}, tmp_path / "x.ckpt")
    saver.save_checkpoint({"f": lambda: None}, tmp_path / "x.ckpt")
    with pytest.raises((AttributeError, TypeError)):
        saver.teardown()
    saver.teardown()
    assert not done
    assert not list(tmp_path.iterdir())


def test_a_snapshot_keeps_shared_storage_and_state_dict_metadata() -> None:
    base = torch.arange(6.0)
    state = nn.BatchNorm1d(2).state_dict()
    content = {"a": base[:4], "b": base.view(2, 3).T, "c": [base, (base,)], "state": state, "empty": torch.empty(0)}
    copied = snapshot(content)
    assert type(copied["state"]) is type(state)
    assert copied["state"]._metadata == state._metadata  # type: ignore[attr-defined]
    assert copied["b"].stride() == content["b"].stride()  # type: ignore[attr-defined]
    base.zero_()
    copied["a"][1] = 9
    assert copied["c"][0].tolist() == [0, 9, 2, 3, 4, 5]
    assert copied["b"].tolist() == [[0, 3], [9, 4], [2, 5]]
    assert copied["c"][1][0] is copied["c"][0]
    assert copied["empty"].numel() == 0


def fails(saver: DurableCheckpointIO, path: Path) -> None:
    """Save a fit into a path whose parent is not a folder."""
    with saver.of_fit(path), pytest.warns(UserWarning, match="a checkpoint could not be written to .*Training goes on"):
        saver.save_checkpoint({"step": 1}, path)


def test_a_save_of_a_fit_that_fails_is_an_error_only_at_the_end(tmp_path: Path) -> None:
    saver, done = DurableCheckpointIO(), list[int]()
    (tmp_path / "file").write_text("in the way")
    nowhere = tmp_path / "file" / "x.ckpt"
    fails(saver, nowhere)
    assert saver.failed
    with saver.of_fit(nowhere):
        saver.after_save(lambda: done.append(1), nowhere)
    assert not done  # the actions after a save, such as removing the earlier one, need a successful save
    with pytest.raises(OSError, match="file"):  # outside of a fit's saves, the caller must be informed
        saver.save_checkpoint({"step": 1}, nowhere)
    with pytest.raises(OSError, match="the last checkpoint could not be written"):
        saver.teardown()
    saver.teardown()


def test_a_new_save_clears_the_earlier_failure(tmp_path: Path) -> None:
    saver, done = DurableCheckpointIO(), list[int]()
    (tmp_path / "file").write_text("in the way")
    fails(saver, tmp_path / "file" / "x.ckpt")
    with saver.of_fit(tmp_path / "x.ckpt"):
        saver.begin()
        saver.save_checkpoint({"step": 2}, tmp_path / "x.ckpt")
        saver.after_save(lambda: done.append(1), tmp_path / "x.ckpt")
    assert done == [1]
    assert not saver.failed
    saver.teardown()


def test_a_changed_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    """Torch would read it, because it ignores the zip's checksums of tensors."""
    saver, path = DurableCheckpointIO(), tmp_path / "x.ckpt"
    saver.save_checkpoint({"weight": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    at = content.find(torch.ones(100).numpy().tobytes())
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        saver.load_checkpoint(path)


def test_the_agreed_checkpoint_is_loaded_and_verified(tmp_path: Path) -> None:
    saver, (first, own, other) = DurableCheckpointIO(), (tmp_path / f"{name}.ckpt" for name in "abc")
    for path in (first, own, other):
        saver.save_checkpoint({"name": path.name}, path)
    saver.load_together(first, own)
    assert [saver.load_checkpoint(path)["name"] for path in (first, own, other)] == ["a.ckpt", "a.ckpt", "c.ckpt"]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"a\.ckpt"):
        saver.load_checkpoint(own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_a_snapshot_of_a_device_is_in_cpu_memory() -> None:
    base = torch.arange(6.0, device="cuda")
    before = torch.cuda.memory_allocated()
    copied = snapshot({"a": base, "b": base[2:]})
    assert torch.cuda.memory_allocated() == before
    assert copied["b"].device.type == "cpu"
    copied["a"][2] = 7
    assert copied["b"].tolist() == [7, 3, 4, 5]
