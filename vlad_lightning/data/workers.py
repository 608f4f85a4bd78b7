"""Processes that read data: they survive the signals of a scheduler, and their errors are reported in one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

T = TypeVar("T", covariant=True)


class Loader(DataLoader[T]):
    """A loader that raises a worker's error as if it came from its own process: without the worker's stack trace.

    PyTorch puts the stack trace into the message. It stays in the error's cause.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches.

        Raises:
            ValueError, OSError: as raised by the data set.
        """
        try:
            yield from super().__iter__()
        except (ValueError, OSError) as error:
            if not str(error).startswith("Caught "):
                raise
            raise type(error)(str(error).rstrip().rpartition("\n")[2].partition(": ")[2]) from error


def start_worker(worker_id: int) -> None:
    """Make a worker survive signals and tokenize without threads; a DataLoader's ``worker_init_fn``.

    Args:
        worker_id: not used.
    """
    # a fork has none of its parent's threads, and would wait forever for those of the tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    outlive_signals(worker_id)


def outlive_signals(worker_id: int) -> None:
    """Let only the training process end this process.

    SLURM sends its warning and its SIGTERM to every process of a job's step, and a terminal its Ctrl-C. Each would end
    a worker, and the dead worker would end the training process, in the middle of the checkpoint that the signal was
    meant to trigger. A SIGTERM from the training process, with which PyTorch ends a hanging worker, still works.

    Args:
        worker_id: not used.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # not on Windows and macOS
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """Receive the signals that are blocked elsewhere, and exit if the parent sent one."""
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
