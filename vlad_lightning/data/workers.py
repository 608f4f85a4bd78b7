"""Processes that read data and outlive the signals of a scheduler."""

from __future__ import annotations

import os
import signal
import threading


def outlive_signals(worker_id: int) -> None:
    """A DataLoader's ``worker_init_fn``: only the training process ends this one.

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
