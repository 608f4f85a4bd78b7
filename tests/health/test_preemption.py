"""Test real signals to this process, which trains a tiny stage."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vlad_lightning.checkpoints import Checkpoints, DurableCheckpointIO
from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.exit_codes import PREEMPTED
from vlad_lightning.health import Preempted, Preemption
from vlad_lightning.health.preemption import requeue_job, save_last

STEPS = 5


def storm() -> None:
    for _ in range(10):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)


class Signals(Callback):
    """Sends many signals at the end of step ``at`` and in every save, or one in a validation.

    ``in_validation`` is the batch after which it is sent; -1 means before the first batch.
    """

    def __init__(self, at: int = 0, in_validation: int | None = None) -> None:
        self.at, self.in_validation, self.validated = at, in_validation, 0

    def on_validation_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.in_validation == -1 and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            storm()

    def on_validation_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.sanity_checking:
            return
        self.validated += 1
        if index == self.in_validation:
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_save_checkpoint(self, *_: Any) -> None:
        if self.at:
            storm()


def last(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, save_last=True, save_top_k=0, enable_version_counter=False)


def fit(
    posters: Path,
    folder: Path,
    *callbacks: Callback,
    ckpt_path: str | None = None,
    stage: str = "tlg",
    **changes: Any,
) -> Trainer:
    module = tiny.stage(stage)
    every = [*callbacks, ExactResume(), Preemption(), last(folder)]
    options: dict[str, Any] = {
        "enable_checkpointing": True,
        "default_root_dir": folder,
        "use_distributed_sampler": False,
    }
    trainer = tiny.trainer(STEPS, callbacks=every, plugins=[DurableCheckpointIO()], **options | changes)
    trainer.fit(module, datamodule=tiny.data(posters, batch_size=4), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Restore the handlers: a remaining one would make this process ignore the signals that end a test run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def weights(path: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(path, weights_only=True)["state_dict"]
    return {name: value for name, value in saved.items() if isinstance(value, torch.Tensor)}  # the tokenizer is text


def test_after_many_signals_the_checkpoint_resumes_like_an_undisturbed_fit(posters: Path, tmp_path: Path) -> None:
    fit(posters, tmp_path / "whole")
    with pytest.raises(Preempted) as ended:
        fit(posters, tmp_path / "cut", Signals(at=2))
    assert ended.value.code == PREEMPTED == 75
    assert torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"] == 2
    trainer = fit(posters, tmp_path / "cut", ckpt_path="last")
    assert trainer.global_step == STEPS
    whole, cut = weights(tmp_path / "whole" / "last.ckpt"), weights(tmp_path / "cut" / "last.ckpt")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_a_signal_ends_a_validation_early(posters: Path, tmp_path: Path) -> None:
    signals = Signals(in_validation=0)
    with pytest.raises(Preempted), pytest.warns(UserWarning, match="first batches only"):
        fit(posters, tmp_path, signals, limit_val_batches=2, val_check_interval=2)
    assert signals.validated == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


class Saves(Callback):
    """Counts the saves."""

    count = 0

    def on_save_checkpoint(self, *_: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_saved_step_is_not_saved_again(posters: Path, tmp_path: Path, asynchronous: bool) -> None:
    own, saves = Checkpoints(str(tmp_path), 2, asynchronous=asynchronous), Saves()
    module, data = tiny.stage("tlg"), tiny.data(posters, batch_size=4)
    options: dict[str, Any] = {"enable_checkpointing": True, "limit_val_batches": 2, "val_check_interval": 2}
    callbacks = [Signals(in_validation=0), saves, ExactResume(), Preemption(), own]
    trainer = tiny.trainer(STEPS, callbacks=callbacks, plugins=[DurableCheckpointIO()], **options)
    with pytest.raises(Preempted), pytest.warns(UserWarning, match="first batches only"):
        trainer.fit(module, datamodule=data)
    assert saves.count == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


class FillUp(Callback):
    """Fills the disk after step ``at``, and sends a preemption signal."""

    def __init__(self, disk: Path, at: int) -> None:
        self.file, self.at = disk / "others", at

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            with contextlib.suppress(OSError), self.file.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ("at", "message"), [(3, "the newest checkpoint is of step 2"), (0, "there is none before")], ids=["some", "none"]
)
def test_a_failed_save_is_reported(posters: Path, small_disk: Path, at: int, message: str) -> None:
    own, module = Checkpoints(str(small_disk / "stage"), 2), tiny.stage("tlg")
    callbacks = [FillUp(small_disk, at), ExactResume(), Preemption(), own]
    plugins = [DurableCheckpointIO()]
    trainer = tiny.trainer(STEPS, callbacks=callbacks, plugins=plugins, enable_checkpointing=True)
    with (
        pytest.raises(Preempted) as ended,
        pytest.warns(UserWarning, match=f"preempted after {at + 1} steps, which could not be saved; {message}"),
    ):
        trainer.fit(module, datamodule=tiny.data(posters, batch_size=4))
    assert ended.value.code == PREEMPTED


@pytest.mark.parametrize("stage", ["alignment", "tlg", "vfe"])
def test_a_validation_may_end_before_its_first_batch(posters: Path, tmp_path: Path, stage: str) -> None:
    signals = Signals(in_validation=-1)
    with pytest.raises(Preempted):
        fit(posters, tmp_path, signals, stage=stage, limit_val_batches=2, val_check_interval=2)
    assert signals.validated == 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_signal_after_the_fit_is_not_handled(posters: Path, tmp_path: Path) -> None:
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    fit(posters, tmp_path)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)  # by default this would end the process
    assert received == [signal.SIGTERM]


def test_without_a_checkpoint_callback_nothing_is_saved() -> None:
    trainer = tiny.trainer()
    assert save_last(trainer) is None
    assert save_last(tiny.trainer(enable_checkpointing=True, callbacks=[ModelCheckpoint(dirpath=".")])) is None


def test_the_stages_own_checkpoints_are_preferred(tmp_path: Path) -> None:
    saved: list[Trainer] = []

    class Watched(Checkpoints):
        def ensure(self, trainer: Trainer) -> bool:
            saved.append(trainer)
            return True

    trainer = tiny.trainer(enable_checkpointing=True, callbacks=[last(tmp_path), Watched(str(tmp_path / "own"))])
    assert save_last(trainer)
    assert saved == [trainer]


def test_lightnings_requeue_is_off(posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    trainer = fit(posters, tmp_path, max_steps=1)
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)  # detected, not configured
    assert not environment.auto_requeue


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Fake ``scontrol``, which prints a job's state and records its calls."""

    def answer(facts: str) -> Path:
        asked, program = tmp_path / "asked", tmp_path / "scontrol"
        program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ "$1" = show ] && echo "JobId=7 {facts}"\nexit 0\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        return asked

    return answer


@pytest.mark.parametrize(
    ("facts", "message", "asks"),
    [
        ("JobState=RUNNING Requeue=1", "SLURM starts it again", True),
        ("JobState=RUNNING Requeue=0", "", False),
        ("JobState=CANCELLED Requeue=1", "the job is CANCELLED", False),  # a requeue would revive it
        ("JobState=COMPLETING Requeue=1", "the job is COMPLETING", False),  # while SLURM requeues or cancels it
    ],
)
def test_only_a_running_job_is_requeued(scontrol: Callable[[str], Path], facts: str, message: str, asks: bool) -> None:
    asked = scontrol(facts)
    answer = requeue_job()
    assert answer.startswith(message)
    assert bool(answer) == bool(message)
    assert ("requeue 7" in asked.read_text().splitlines()) is asks


def test_outside_slurm_nothing_is_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert requeue_job() == ""


def test_an_array_task_is_requeued_by_its_own_id(
    scontrol: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scontrol("JobState=RUNNING Requeue=1")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue_job()
    assert "requeue 5_3" in asked.read_text().splitlines()


def test_only_the_first_process_fails_and_requeues_if_allowed(scontrol: Callable[[str], Path]) -> None:
    asked, met = scontrol("JobState=RUNNING Requeue=1"), list[int]()
    for rank, requeue in ((0, False), (1, True)):
        ended = Preempted(3, rank, lambda: met.append(1), requeue)
        assert ended.code == (PREEMPTED if rank == 0 else 0)
        ended.finish()
        assert not asked.exists()
    Preempted(3, 0, lambda: met.append(1), True).finish()
    assert "requeue 7" in asked.read_text().splitlines()
    assert len(met) == 3


class SignalInStep(Callback):
    """Sends SIGUSR1 after a batch, counted from 0; or raises an error there."""

    def __init__(self, batch: int, number: int = signal.SIGUSR1, error: type[Exception] | None = None) -> None:
        self.batch, self.number, self.error = batch, number, error

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == self.batch:
            if self.error is not None:
                raise self.error("broken")
            os.kill(os.getpid(), self.number)


def test_accumulated_gradients_are_not_lost(posters: Path, tmp_path: Path) -> None:
    """A signal after the first of two batches of the second step: this step is finished before the fit stops."""
    with pytest.raises(Preempted) as ended:
        fit(posters, tmp_path, SignalInStep(2), accumulate_grad_batches=2)
    assert ended.value.step == 2


def test_after_a_failed_fit_signals_are_not_handled(posters: Path, tmp_path: Path) -> None:
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    with pytest.raises(ValueError, match="broken"):
        fit(posters, tmp_path, SignalInStep(0, error=ValueError))
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_if_disabled_signals_are_not_handled(posters: Path) -> None:
    received: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    trainer = tiny.trainer(3, callbacks=[SignalInStep(0), Preemption(enabled=False)])
    trainer.fit(tiny.stage("tlg"), datamodule=tiny.data(posters, batch_size=4))
    assert trainer.global_step == 3
    assert received == [signal.SIGUSR1]
