"""A fit that stands still dumps its stacks and ends, so that what started it can start it again."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from vlad_lightning.checkpoints.retention import fit_folder
from vlad_lightning.exit_codes import STALLED
from vlad_lightning.lightning_internals import accumulates, collective_timeout, set_collective_timeout

_MARGIN = timedelta(hours=1)


class Watchdog(Callback):
    """Ends a fit in which no batch ended for too long, with exit code 76, after it wrote where each thread stands.

    A daemon thread looks at the clock. When the time since the latest batch is over, it writes the stacks of all
    threads to ``stacks/{start of the fit}/rank{r}.txt`` in the folder of the checkpoints and to stderr, and a file
    ``stalled.txt`` beside it, which the watchdogs of the other ranks look for: they write theirs at once. (Without a
    shared folder they do so when their own time is over, which in a hang of a collective is the same.) After a grace
    time for the others the process ends, without clean-up: a main thread that hangs in a collective cannot be woken.

    A thread that never gives back Python's lock would stop this one too. So ``faulthandler``'s timer, which needs no
    lock, is set behind it, a minute later; it can only exit with code 1.

    The collectives of torch have a time-out too, after which NCCL aborts the process with a code of its own. It has to
    be the longer one: see :meth:`go_first`.

    Args:
        timeout: seconds without the end of a batch; None watches nothing.
        slow_timeout: the same for what takes longer than a batch: the first step, a validation's batch, a checkpoint.
        grace: seconds between the stacks and the end, for the other ranks' stacks.

    Raises:
        ValueError: where a number is out of its range.
    """

    def __init__(self, timeout: float | None = 1800.0, slow_timeout: float = 7200.0, grace: float = 15.0) -> None:
        if timeout is not None and not 0 < timeout <= slow_timeout:
            raise ValueError(f"timeout is {timeout}; it must be above 0 and at most slow_timeout, {slow_timeout}")
        if grace < 0:
            raise ValueError(f"grace is {grace}; it must be at least 0")
        self.timeout = timeout
        self.slow_timeout = slow_timeout
        self.grace = grace
        self._watch: Watch | None = None
        self._first = True

    def go_first(self, trainer: Trainer) -> None:
        """Let collectives wait for longer than this watchdog, where nobody has set their time-out. Before a fit.

        ``vlad-cli fit`` calls it. Torch's own times are 10 minutes (NCCL) and 30, Lightning's 30.
        """
        if self.timeout is not None and collective_timeout(trainer) == default_pg_timeout <= self._longest:
            set_collective_timeout(trainer, self._longest + _MARGIN)

    @property
    def _longest(self) -> timedelta:
        """The latest end of a process that hangs, the timer behind it included."""
        return timedelta(seconds=self.slow_timeout + max(self.grace, Watch._BEHIND))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to watch a fit; warns where collectives have less time."""
        self._stop()
        if stage != "fit" or self.timeout is None:
            return
        started = trainer.strategy.broadcast(f"{datetime.now():%Y%m%d-%H%M%S}")
        folder = trainer.strategy.broadcast(str(fit_folder(trainer)))
        if (
            (patience := collective_timeout(trainer)) is not None
            and trainer.world_size > 1
            and patience <= self._longest
        ):
            rank_zero_warn(
                f"collectives time out after {patience}, and the watchdog would wait for {self._longest}: a hang may "
                f"end without its exit code {STALLED}; give the strategy a longer timeout, or the watchdog a shorter "
                "slow_timeout"
            )
        self._first = True
        self._watch = Watch(Path(folder, "stacks", started), trainer.global_rank, self.grace)
        self._watch.feed(self.slow_timeout, "before the first step")
        self._watch.start()

    def _feed(self, trainer: Trainer, what: str, slow: bool = False) -> None:
        if self._watch is not None and self.timeout is not None:
            seconds = self.slow_timeout if slow or self._first else self.timeout
            self._watch.feed(seconds, f"{what}, after step {trainer.global_step}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The next batch has come."""
        self._feed(trainer, "in a training batch")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch has ended; the first is not the last slow one, where gradients accumulate."""
        self._first = self._first and accumulates(trainer)
        self._feed(trainer, "waiting for a training batch")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation begins."""
        self._feed(trainer, "in a validation", slow=True)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """A batch of a validation has ended."""
        self._feed(trainer, "in a validation", slow=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows a validation, such as pictures, may take long; the next batch is timed again."""
        self._feed(trainer, "after a validation", slow=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint begins."""
        self._feed(trainer, "saving a checkpoint", slow=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What ends a fit may take long."""
        self._feed(trainer, "at the end of the fit", slow=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching: Lightning calls no ``teardown`` then, and the process may go on."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._stop()

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


class Watch:
    """A clock that has to be fed, in a thread of its own.

    Args:
        folder: of the stacks; it is made when there are any.
        rank: this process's.
        grace: seconds between the stacks and the end.
    """

    _BEHIND = 60.0  # seconds by which the timer without Python stands behind

    def __init__(self, folder: Path, rank: int, grace: float) -> None:
        self.folder = folder
        self.rank = rank
        self.grace = grace
        self._deadline = 0.0
        self._seconds = 0.0
        self._what = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def feed(self, seconds: float, what: str) -> None:
        """Set the clock: ``seconds`` from now on, for ``what``."""
        self._seconds, self._what = seconds, what
        self._deadline = time.monotonic() + seconds

    def start(self) -> None:
        """Begin to look at the clock."""
        self._thread.start()

    def stop(self) -> None:
        """End; also the timer behind."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._pause()):
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._end(f"rank {self.rank} on {socket.gethostname()}: no end of a batch for {self._seconds:g} s")
                if self._told():
                    self._end(f"rank {self.rank} on {socket.gethostname()}: another rank stalled")
                faulthandler.dump_traceback_later(left + self._BEHIND, exit=True)
        finally:  # nothing would set it again
            faulthandler.cancel_dump_traceback_later()

    def _told(self) -> bool:
        try:
            return (self.folder / "stalled.txt").exists()
        except OSError:  # a file system that is away for a while is no stall
            return False

    def _pause(self) -> float:
        return min(5.0, self._seconds / 10)

    def _end(self, why: str) -> None:
        """Write the stacks, leave word for the others, end."""
        faulthandler.dump_traceback_later(self.grace + self._BEHIND, exit=True)  # not before the grace is over
        why = f"{why}; {self._what}"
        try:
            self._write(why)
        except OSError as error:  # a full or broken disk must not keep a hung process alive
            print(f"watchdog: {error}", file=sys.stderr, flush=True)
        print(f"watchdog: {why}; the stacks are in {self.folder}; exit code {STALLED}", file=sys.stderr, flush=True)
        dump_stacks(sys.stderr)
        time.sleep(self.grace)
        os._exit(STALLED)

    def _write(self, why: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"rank{self.rank}.txt").open("w", encoding="utf-8") as file:
            print(f"{datetime.now().isoformat(timespec='seconds')} process {os.getpid()}: {why}", file=file, flush=True)
            dump_stacks(file)
        with (self.folder / "stalled.txt").open("a", encoding="utf-8") as file:
            print(why, file=file)


def dump_stacks(file: IO[str]) -> None:
    """Write the Python stack of each thread to a file that has a descriptor; does nothing where it has none."""
    try:
        faulthandler.dump_traceback(file=file, all_threads=True)
    except (AttributeError, OSError, ValueError):  # stderr may be replaced, as tests and notebooks do
        return
