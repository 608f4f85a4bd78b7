"""Run one process of a fit with faults: ``vlad-cli`` with a callback that observes it and can break it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.cli import fit as cli
from vlad_lightning.cli import launcher, run
from vlad_lightning.data import scan


@dataclass(frozen=True)
class Inside:
    """Faults that a process causes itself.

    Attributes:
        poisoned_steps: training steps whose boxes are NaN.
        hang_at: step before which ``hung_rank`` sleeps for ever.
        hung_rank: the rank that hangs.
        kill_at_call: number of the file system call for a checkpoint just before which the process gets SIGKILL.
        pause: seconds added to each step, so that there is time for a fault.
    """

    poisoned_steps: tuple[int, ...] = ()
    hang_at: int | None = None
    hung_rank: int = 1
    kill_at_call: int | None = None
    pause: float = 0.0


class Observer(Callback):
    """Records the samples of each step, and the state that an interruption could not undo."""

    def __init__(self, log: Path, inside: Inside) -> None:
        self.path = log
        self.inside = inside

    def _write(self, trainer: Trainer, **entry: Any) -> None:
        with self.path.with_suffix(f".{trainer.global_rank}").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, start=trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        inside = self.inside
        time.sleep(inside.pause)
        if trainer.global_step == inside.hang_at and trainer.global_rank == inside.hung_rank:
            time.sleep(3600)
        if trainer.global_step in inside.poisoned_steps:
            batch.word_boxes.fill_(torch.nan)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._write(trainer, step=trainer.global_step, keys=list(batch.keys))


class ObservedCLI(cli.VLADCLI):
    """The command line, with the observer among the trainer's callbacks."""

    observer: Observer

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, self.observer)  # first, so that it sees a step that another callback ends
        return trainer


def start(args: list[str], inside: Inside, log: Path, output: Path, environment: dict[str, str]) -> int:
    """Fork a process that runs ``vlad-cli args``, so that libraries are imported only once.

    Returns:
        Its process id; it leads a new session.
    """
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        os.setsid()
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(environment)
        for known in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(known, signal.SIG_DFL)
        calls = CheckpointCalls(inside.kill_at_call)
        sys.addaudithook(calls)
        ObservedCLI.observer = Observer(log, inside)
        cli.VLADCLI = ObservedCLI  # type: ignore[misc]
        scan._MANY = 0  # scan the few posters like many, with notes for the next time
        run._execute = lambda command, _, threads: _stage(command[3:], inside, log, output)
        code = launcher.main(args)
        log.with_suffix(".calls").write_text(str(calls.seen))
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stage(args: list[str], inside: Inside, log: Path, output: Path) -> int:
    """Run a stage of ``vlad-cli run``, also forked."""
    return os.waitstatus_to_exitcode(os.waitpid(start(args, inside, log, output, {}), 0)[1])


class CheckpointCalls:
    """Counts opening for writing, renaming, linking and removing of checkpoints; sends SIGKILL before the n-th call."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal = fatal
        self.seen = 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.link", "os.remove", "os.symlink") or ".ckpt" not in str(args[0]):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.seen += 1
        if self.seen == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
