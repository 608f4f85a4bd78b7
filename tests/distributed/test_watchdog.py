"""Test processes that hang in each way that the watchdog handles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlad_lightning.exit_codes import STALLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HUNG = """
import sys, threading, time, ctypes
from pathlib import Path
from vlad_lightning.health.watchdog import Watch

Watch._BEHIND = 1.0
watch = Watch(Path(sys.argv[2]), rank=3, grace=2.5 if sys.argv[1] == "patient" else 0.1)
watch.feed(5.0, "in a training batch, after step 7")
watch.start()
def hang_here():
    if sys.argv[1] == "lock":
        ctypes.PyDLL(None).sleep(300)  # holds Python's lock
    threading.Event().wait()
for _ in range(6):
    time.sleep(1)
    watch.feed(5.0, "in a training batch, after step 7")
print("fed", flush=True)
time.sleep(2)  # the timer behind is set meanwhile
if sys.argv[1] == "away":
    watch.folder = Path("x" * 300)  # to look into it is an error
    for _ in range(8):  # longer than the timer behind waits
        watch.feed(5.0, "in a training batch, after step 7")
        time.sleep(1)
    watch.stop()
    print("still here", flush=True)
    sys.exit(0)
hang_here()
"""


Hung = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hung, Path]:
    """Start six processes at once, because each needs many seconds for its imports."""
    root = tmp_path_factory.mktemp("hung")
    (root / "told").mkdir()
    (root / "told" / "stalled.txt").write_text("rank 0 on a: no end of a batch\n")
    (root / "file").write_text("")
    cases = {
        "wait": root / "wait",
        "lock": root / "lock",
        "told": root / "told",
        "unwritable": root / "file" / "stacks",
        "away": root / "away",
        "patient": root / "patient",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = {
        name: subprocess.Popen([sys.executable, "-c", HUNG, name, str(folder)], **pipes)  # type: ignore[call-overload]
        for name, folder in cases.items()
    }
    try:
        said = {name: process.communicate(timeout=800) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
    done = {n: subprocess.CompletedProcess(p.args, p.returncode, *said[n]) for n, p in started.items()}
    return done, root


def test_hung_process_ends_with_its_stacks(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["wait"], hung[1]
    assert done.returncode == STALLED == 76
    assert done.stdout == "fed\n"  # it stayed alive while it was fed, longer than the time limit
    written = (root / "wait" / "rank3.txt").read_text()
    assert "no end of a batch for 5 s; in a training batch, after step 7" in written
    assert "in hang_here" in written
    assert "in hang_here" in done.stderr
    assert "rank 3" in (root / "wait" / "stalled.txt").read_text()


def test_process_that_holds_pythons_lock_ends_too(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["lock"]
    assert done.returncode == 1
    assert "in hang_here" in done.stderr


def test_a_message_from_another_rank_ends_a_process_that_is_fed(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["told"], hung[1]
    assert done.returncode == STALLED
    assert done.stdout == ""
    assert "another rank stalled" in (root / "told" / "rank3.txt").read_text()


def test_a_process_ends_even_if_its_stacks_cannot_be_written(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["unwritable"]
    assert done.returncode == STALLED
    assert "in hang_here" in done.stderr


def test_an_unavailable_file_system_ends_no_process(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["away"]
    assert (done.returncode, done.stdout) == (0, "fed\nstill here\n")
    assert "Exception in thread" not in done.stderr


def test_a_grace_period_longer_than_the_fallback_timer_is_respected(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["patient"], hung[1]
    assert done.returncode == STALLED
    assert "in hang_here" in (root / "patient" / "rank3.txt").read_text()
