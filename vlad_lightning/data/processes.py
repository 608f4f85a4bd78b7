"""The same work on many tasks, in several processes that Ctrl-C ends cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def unordered(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield the result of each task as it is finished, in any order.

    Args:
        function: what is done to each task; it is pickled for other processes, as are the tasks and results.
        tasks: read as they are needed.
        workers: number of processes; with 1, this process does all of it.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    # Spawned: a process that has loaded torch's threads must not be forked.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
        left = iter(tasks)
        try:
            with _held_back(signal.SIGINT):  # the first submissions start the processes
                pending = {pool.submit(function, task) for task in islice(left, 2 * workers)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(function, task) for task in islice(left, len(done))}
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when its parent does: after a kill it would wait for tasks forever."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Block a signal in this context; a process that is started meanwhile never receives it.

    Only the first process must react to Ctrl-C: a worker killed while it holds the queue's lock would leave the others
    waiting forever.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
