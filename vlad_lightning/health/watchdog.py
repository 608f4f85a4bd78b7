"""A watchdog that dumps the stacks of a hung fit and ends it, so that its launcher can start it again."""

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
    """A callback that writes each thread's stack and ends a fit with exit code 76 if no batch has ended for too long.

    A daemon thread checks the time. When too much time has passed since the last batch, it writes the stacks of all
    threads to ``stacks/{start of the fit}/rank{r}.txt`` in the folder of the checkpoints and to stderr. Beside it, it
    writes ``stalled.txt``, which the watchdogs of the other ranks look for: they write their stacks at once. (Without a
    shared folder they do so at their own time-out, which in a hang of a collective is the same.) After a grace time for
    the other ranks, the process ends without clean-up: a main thread that hangs in a collective cannot be woken.

    A thread that never releases Python's GIL would stop the daemon thread too. So ``faulthandler``'s timer, which does
    not need the GIL, is set to a minute later as a fallback; it can only exit with code 1.

    The collectives of torch have a time-out too, after which NCCL aborts the process with another exit code. It must be
    longer than the watchdog's: see :meth:`go_first`.

    Args:
        timeout: seconds without the end of a batch; None disables the watchdog.
        slow_timeout: the same for what takes longer than a batch: the first step, a validation's batch, a checkpoint.
        grace: seconds between the stacks and the end, for the other ranks' stacks.

    Raises:
        ValueError: if a number is out of its range.
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
        """Set the collectives' time-out longer than this watchdog's, unless a user set it; call it before a fit.

        ``vlad-cli fit`` calls it. The default is 10 minutes (NCCL) or 30 in torch, and 30 in Lightning.
        """
        if self.timeout is not None and collective_timeout(trainer) == default_pg_timeout <= self._longest:
            set_collective_timeout(trainer, self._longest + _MARGIN)

    @property
    def _longest(self) -> timedelta:
        """The longest time until a hung process ends, including the fallback timer."""
        return timedelta(seconds=self.slow_timeout + max(self.grace, Watch._BEHIND))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to watch a fit; warn if the collectives' time-out is shorter."""
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
        """Restart the time at the start of a batch."""
        self._feed(trainer, "in a training batch")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restart the time at the end of a batch; all accumulated batches of the first step count as slow."""
        self._first = self._first and accumulates(trainer)
        self._feed(trainer, "waiting for a training batch")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allow the longer time for the first batch of a validation."""
        self._feed(trainer, "in a validation", slow=True)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Allow the longer time for the next batch of a validation."""
        self._feed(trainer, "in a validation", slow=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allow the longer time for what follows a validation, such as images, until the next batch."""
        self._feed(trainer, "after a validation", slow=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Allow the longer time for saving a checkpoint."""
        self._feed(trainer, "saving a checkpoint", slow=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allow the longer time for the end of a fit."""
        self._feed(trainer, "at the end of the fit", slow=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching, since Lightning does not call ``teardown`` after an error and the process may go on."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._stop()

    def _stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


class Watch:
    """A timer in a separate thread that ends the process unless it is set again in time.

    Args:
        folder: folder for the stacks; it is created when they are written.
        rank: the rank of this process.
        grace: seconds between the stacks and the end.
    """

    _BEHIND = 60.0  # seconds by which faulthandler's timer is later

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
        """Set the deadline to ``seconds`` from now, for ``what``."""
        self._seconds, self._what = seconds, what
        self._deadline = time.monotonic() + seconds

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and faulthandler's timer."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._pause()):
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self._end(f"rank {self.rank} on {socket.gethostname()}: no end of a batch for {self._seconds:g} s")
                if self._another_stalled():
                    self._end(f"rank {self.rank} on {socket.gethostname()}: another rank stalled")
                faulthandler.dump_traceback_later(left + self._BEHIND, exit=True)
        finally:  # nothing would postpone this timer any more
            faulthandler.cancel_dump_traceback_later()

    def _another_stalled(self) -> bool:
        try:
            return (self.folder / "stalled.txt").exists()
        except OSError:  # a file system may be unavailable for a while
            return False

    def _pause(self) -> float:
        return min(5.0, self._seconds / 10)

    def _end(self, why: str) -> None:
        """Write the stacks and the file for the other ranks, then end the process."""
        faulthandler.dump_traceback_later(self.grace + self._BEHIND, exit=True)  # not before the grace time is over
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
    """Write the Python stack of each thread to a file with a descriptor; do nothing if it has none."""
    try:
        faulthandler.dump_traceback(file=file, all_threads=True)
    except (AttributeError, OSError, ValueError):  # stderr may be replaced, as tests and notebooks do
        return
