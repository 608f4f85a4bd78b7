"""Processes that read data: they outlive the signals of a scheduler, and their errors are told in a line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

T = TypeVar("T", covariant=True)


class Loader(DataLoader[T]):
    """A loader that tells an error of a worker as one of its own process: by its message, without the worker's stack.

    PyTorch puts the stack into the message. It stays in the error's cause.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches.

        Raises:
            ValueError, OSError: as the data set raises them.
        """
        try:
            yield from super().__iter__()
        except (ValueError, OSError) as error:
            if not str(error).startswith("Caught "):
                raise
            raise type(error)(str(error).rstrip().rpartition("\n")[2].partition(": ")[2]) from error


def start_worker(worker_id: int) -> None:
    """A DataLoader's ``worker_init_fn``: the process outlives signals, and tokenizes by itself.

    Args:
        worker_id: not used.
    """
    # a fork has none of its parent's threads, and would wait for those of the tokenizer for ever
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    outlive_signals(worker_id)


def outlive_signals(worker_id: int) -> None:
    """Let only the training process end this one.

    SLURM sends its warning and its SIGTERM to every process of a job's step. A worker would die of either, and the
    training process of that, in the middle of the checkpoint for which the signal was meant. A SIGTERM from the
    training process, with which PyTorch ends a worker that hangs, still counts.

    Args:
        worker_id: not used.
    """
    if not hasattr(signal, "sigwaitinfo"):  # not on Windows and macOS
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """Take the signals that are blocked elsewhere, and look who sent them."""
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
