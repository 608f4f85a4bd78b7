from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from vlad_lightning.data.processes import unordered


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(unordered(abs, iter(range(-20, 0)), workers)) == list(range(1, 21))


def test_an_error_in_a_process_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(unordered(int, ["1", "x"], 2))


def test_the_processes_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, time\n"
        "from vlad_lightning.data.processes import unordered\n"
        "for _ in unordered(time.sleep, [0, 600], 2): os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)  # waits for all its readers
    assert ended.returncode == 9


class Thing:
    pass


def lose_an_interrupt(number: int) -> int:
    """Get Ctrl-C in the callback of a weak reference, where Python can only print the exception."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None
    return number


def turn_an_interrupt_into_an_error(_: int) -> None:
    """Get Ctrl-C where a lock has been released that its context releases again, as in ``Condition.wait``."""
    lock = threading.Lock()
    with lock:
        lock.release()
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Handle SIGINT as in a terminal: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) == signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_that_python_loses_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    with pytest.raises(KeyboardInterrupt):
        list(unordered(lose_an_interrupt, range(9), 1))
    assert len(lost) == 1


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_that_became_an_error_is_one() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(unordered(turn_an_interrupt_into_an_error, [0], 1))


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_waits_until_the_pool_is_not_in_the_middle_of_something() -> None:
    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "c_return" and frame.f_code.co_name == "_release_save" and in_futures(frame):
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    def in_futures(frame: FrameType | None) -> bool:
        while frame and not frame.f_code.co_filename.endswith("futures/_base.py"):
            frame = frame.f_back
        return frame is not None

    others = set(multiprocessing.active_children())  # of earlier tests
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(unordered(abs, range(100), 2))
    finally:
        sys.setprofile(None)
    assert not set(multiprocessing.active_children()) - others
