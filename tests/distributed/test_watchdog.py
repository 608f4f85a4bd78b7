"""Test processes that hang in each way that the watchdog handles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from distributed.processes import ended, start

from vlad_lightning.exit_codes import STALLED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("hung_process.py")

Hung = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hung, Path]:
    """Run six processes at once, because each waits for seconds."""
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
    outputs, errors = ([root / f"{name}.{kind}" for name in cases] for kind in ("out", "err"))
    processes = [
        start(SCRIPT, (name, str(folder)), {}, out, err)
        for (name, folder), out, err in zip(cases.items(), outputs, errors, strict=True)
    ]
    done = dict(zip(cases, ended(processes, outputs, errors, limit=800), strict=True))
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
