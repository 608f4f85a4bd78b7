"""Preemption: on SIGUSR1, SIGTERM or Ctrl-C, save after the step, stop in an orderly way, and requeue the SLURM job."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from vlad_lightning.checkpoints.ranks import on_first
from vlad_lightning.checkpoints.retention import Checkpoints, last_checkpoint, writer_of
from vlad_lightning.exit_codes import PREEMPTED
from vlad_lightning.lightning_internals import cluster_environment, collective_timeout, keep_sigterm_here

SIGNALS = (signal.SIGUSR1, signal.SIGTERM) if os.name == "posix" else (signal.SIGTERM,)

_log = logging.getLogger(__name__)


class Preempted(SystemExit):
    """The exception raised on every rank after the last save; Lightning closes loggers and strategy as it propagates.

    The exit code of a run is that of its first process, :data:`~vlad_lightning.exit_codes.PREEMPTED`. The others end
    with 0: srun's ``--kill-on-bad-exit`` and Lightning's own launcher kill all processes of a run when one fails, which
    would kill the first process before it requeues the job.

    Args:
        step: optimizer steps done.
        rank: the global rank of this process.
        meet: a barrier; it returns when every process has called it.
        requeue: whether the first process asks SLURM to queue the job again.
        saved: the checkpoint that was written; empty if there is none.
    """

    def __init__(self, step: int, rank: int, meet: Callable[[], None], requeue: bool, saved: str = "") -> None:
        super().__init__(PREEMPTED if rank == 0 else 0)
        self.step, self.rank, self.meet, self.requeue, self.saved = step, rank, meet, requeue, saved

    def finish(self, command: str = "") -> None:
        """Requeue the job after every process has written and closed its files; else print how to go on.

        Args:
            command: the command line that goes on from the saved checkpoint.
        """
        self.meet()
        if self.rank == 0:
            requeued = self.requeue and requeue_job()
            again = requeued or "the same command with --ckpt_path last goes on"
            _log.warning("preempted after %d steps; %s (exit code %d)", self.step, again, PREEMPTED)
            if command and self.saved and not requeued:
                print(f"saved: {self.saved}\nto go on: {command}", file=sys.stderr, flush=True)


class Preemption(Callback):
    """A callback that ends a fit in an orderly way when a scheduler asks for the machine.

    SIGUSR1 and SIGTERM only set a flag, so any number of them at any moment does no harm. Ranks compare their flags
    once per optimizer step, over a separate process group on the CPU: the answer of a step is read at the end of the
    next step, so no rank waits for it. Then the last checkpoint is written (:func:`save_last`), and :class:`Preempted`
    ends the fit. A validation is cut short at the same batch on all ranks, and the checkpoint is written after it.

    Ctrl-C (SIGINT) does the same, without a requeue; a second one interrupts at once, as Lightning does.

    Lightning's own handling, which saves inside the signal handler, is switched off.

    Args:
        enabled: False leaves signals to Lightning and the system.
        requeue: requeue the SLURM job if it is running and may be requeued (``--requeue``).
    """

    def __init__(self, enabled: bool = True, requeue: bool = True) -> None:
        self.enabled = enabled
        self.requeue = requeue
        self.received = 0
        self._armed = self._tells = False
        self._before: dict[int, Any] = {}
        self._seen_step = 0
        self._group: Any = None
        self._flag = torch.zeros(1, dtype=torch.uint8)
        self._pending: Any = None
        self._batches_left: float = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Install the signal handlers early, since loading data and weights can take minutes."""
        environment = cluster_environment(trainer)
        if self.enabled and isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False
        if self.enabled and stage == "fit":
            self.received, self._armed, self._tells = 0, True, trainer.is_global_zero
            keep_sigterm_here(trainer)
            self._listen()
        if hasattr(signal, "pthread_sigmask"):  # the launcher blocked the signal while the program was loading
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create a separate process group for the flags, so that they never mix with the strategy's collectives."""
        self._group, self._pending = None, None
        if self._armed and trainer.world_size > 1:
            # the strategy's time-out, since the default is 30 minutes, and in a hang the watchdog must act first
            self._group = dist.new_group(backend="gloo", timeout=collective_timeout(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers again, since Lightning registers its own just before."""
        self._seen_step = trainer.global_step
        if self._armed:
            self._listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after an optimizer step; gradients that are still accumulating would be lost."""
        if not self._armed or trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        if self._asked_before():
            self._stop(trainer)
        self._ask()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation that would be cut short."""
        self._stop_if_asked(trainer)
        self._batches_left = self._common_batches(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Skip the remaining batches, on all ranks at the same batch, so that none is left waiting in a collective.

        As after a step, the answer of a batch is read at the next batch.
        """
        if not self._armed or trainer.sanity_checking or self._batches_left <= 0:
            return
        self._batches_left -= 1
        if self._asked_before():
            rank_zero_warn("preempted: this validation's results are of its first batches only")
            raise StopIteration  # tells Lightning's loop that there are no more batches
        self._ask()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after a validation that was cut short."""
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the pending answer; a finished fit is no longer preempted."""
        self._asked_before()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop reacting to signals."""
        self._armed = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop reacting to signals after a failure; after a preemption, ignore them until the process ends."""
        self._armed = isinstance(exception, Preempted)

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers there only
            return
        for number in (*SIGNALS, signal.SIGINT):
            if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:  # a shell's background job
                continue
            before = signal.signal(number, self._on_signal)
            self._before.setdefault(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT == self.received
        if self._armed and not again:
            self.received = number
            if number == signal.SIGINT and self._tells:
                os.write(2, b"\nCtrl-C: the fit saves and stops after this step; press it again to end at once\n")
            return
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN and number == signal.SIGTERM:  # SIGUSR1 is only a warning; ignore it now
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _ask(self) -> None:
        """Start to compare the flags; does nothing without other ranks."""
        self._flag.fill_(bool(self.received))
        if self._group is not None:
            self._pending = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def _asked_before(self) -> bool:
        """Return the answer of the last comparison; on one process the flag itself."""
        if self._group is None:
            return bool(self.received)
        if self._pending is None:
            return False
        self._pending.wait()
        self._pending = None
        return bool(self._flag)

    def _common_batches(self, trainer: Trainer) -> float:
        """Return the number of validation batches that every rank has; 0 if a rank does not know its number."""
        own = sum(trainer.num_val_batches)
        if self._group is None or not self._armed or trainer.sanity_checking:
            return own
        least = torch.tensor([own if math.isfinite(own) else 0], dtype=torch.int64)
        dist.all_reduce(least, dist.ReduceOp.MIN, group=self._group)
        return int(least)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        """Compare the flags, wait for the answer and stop if one is set; call it at a point that every rank reaches."""
        if not self._armed or trainer.sanity_checking:
            return
        before = self._asked_before()
        self._ask()
        if self._asked_before() or before:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        written, saved = save_last(trainer), ""
        if written:
            rank_zero_info(f"preempted after {trainer.global_step} steps: the checkpoint is saved")
            saved = last_checkpoint(trainer)
        elif written is None:
            rank_zero_warn("preempted, and no callback has written a last checkpoint: nothing is saved")
        else:
            newest = next((c.newest_step for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints)), None)
            before = "there is none before" if newest is None else f"the newest checkpoint is of step {newest}"
            rank_zero_warn(f"preempted after {trainer.global_step} steps, which could not be saved; {before}")
        requeue = self.requeue and self.received != signal.SIGINT
        raise Preempted(trainer.global_step, trainer.global_rank, self._meet, requeue, saved)

    def _meet(self) -> None:
        if self._group is not None and dist.is_initialized():
            with contextlib.suppress(RuntimeError):  # a rank is gone, but the checkpoint is saved already
                dist.barrier(group=self._group)


def save_last(trainer: Trainer) -> bool | None:
    """Have the trainer's callbacks write the last checkpoint if they have not; every process has to call it.

    Returns:
        Whether it is on the disk; None if there is no callback that writes one, neither :class:`Checkpoints` nor a
        ``ModelCheckpoint`` with ``save_last``.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, Checkpoints) and callback.directory(trainer) is not None:
            return callback.ensure(trainer)
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.save_last:
            return _save(trainer, Path(callback.format_checkpoint_name({}, callback.CHECKPOINT_NAME_LAST)))
    return None


def _save(trainer: Trainer, path: Path) -> bool:
    writer = writer_of(trainer)
    if writer is None:
        trainer.save_checkpoint(path)
        return True
    with writer.of_fit(path):
        writer.begin()
        trainer.save_checkpoint(path)
    return on_first(lambda: not writer.failed)


def requeue_job() -> str:
    """Requeue the SLURM job that this process belongs to, with ``scontrol requeue``.

    Only a running job is requeued: a job that is being cancelled would start again, and a job that SLURM itself
    preempts, or an administrator requeues, is queued already.

    Returns:
        What happens to the job; empty outside SLURM, without ``--requeue``, and if SLURM refuses.
    """
    job = _job_id()
    if job is None or shutil.which("scontrol") is None:
        return ""
    shown = _scontrol("show", "job", "--oneliner", job)
    if shown.returncode:
        _log.warning("scontrol show job %s: %s", job, shown.stderr.strip())
        return ""
    facts = dict(re.findall(r"(\w+)=(\S*)", shown.stdout))
    if facts.get("JobState") != "RUNNING":
        return f"the job is {facts.get('JobState')}, and starts again if it was requeued"
    if facts.get("Requeue") != "1":
        _log.warning("job %s may not be requeued; submit it with --requeue", job)
        return ""
    done = _scontrol("requeue", job)
    if done.returncode:
        _log.warning("scontrol requeue %s: %s", job, done.stderr.strip())
    return "" if done.returncode else "SLURM starts it again"


def _job_id() -> str | None:
    """Return the id of the job, or of this task in a job array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _scontrol(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scontrol", *args], capture_output=True, text=True, timeout=60, check=False)
