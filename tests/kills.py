"""kill -9 of a process in the middle of its work."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable

import torch


def kill_when(work: Callable[[], object], reached: Callable[[], bool]) -> None:
    """Fork a process that works, and kill it with SIGKILL as soon as it has reached a state."""

    def on_one_thread() -> None:
        torch.set_num_threads(1)  # the threads of the forking process do not exist here: OpenMP would wait for them
        work()

    process = multiprocessing.get_context("fork").Process(target=on_one_thread)
    process.start()
    try:
        while not reached():
            assert process.is_alive(), "it ended before it was killed"
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
