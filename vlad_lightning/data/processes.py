"""The same work on many tasks, in several processes that Ctrl-C ends cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
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
        with _interrupts(at_once=True) as check:
            for task in tasks:
                yield function(task)
                check()
        return
    # Spawned: a process that has loaded torch's threads must not be forked.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)
    with _interrupts(at_once=False) as check, pool:
        left = iter(tasks)
        pending: set[Future[Result]] = set()
        try:
            while pending := pending | _submitted(pool, function, islice(left, 2 * workers - len(pending))):
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                check()
                for future in done:
                    yield future.result()
                    check()
        finally:
            pool.shutdown(cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Iterable[Task]
) -> set[Future[Result]]:
    with _held_back(signal.SIGINT):  # any submission may start a process
        return {pool.submit(function, task) for task in tasks}


@contextmanager
def _interrupts(at_once: bool) -> Iterator[Callable[[], None]]:
    """Note Ctrl-C in this context; yield a function that raises KeyboardInterrupt if there was one.

    Python raises it wherever the program is. Inside a lock it becomes a RuntimeError, and in a callback of a weak
    reference it is printed and forgotten. So an error after a Ctrl-C counts as one, and a forgotten one is raised by
    the next check.

    Args:
        at_once: let Python raise it as well; otherwise it does so at the second Ctrl-C only. In the middle of handing
            over a task it would leave half a message to the pool, which waits for the other half.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) != signal.default_int_handler:  # ignored, or the caller's own
        yield lambda: None
        return
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        if at_once or len(received) > 1:
            raise KeyboardInterrupt

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    except Exception:
        check()
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
