from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning.checkpoints.fit_lock import NAME, refuse_if_held, release, take


def holder(folder: Path, **changes: object) -> None:
    """Make the lock that this process would take, with changes."""
    take(folder)
    content: dict[str, Any] = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps(content | changes))


def test_a_lock_is_taken_and_released(tmp_path: Path) -> None:
    take(tmp_path)
    assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    take(tmp_path)  # by the next fit of this process
    release(tmp_path)
    assert list(tmp_path.iterdir()) == []
    release(tmp_path)
    refuse_if_held(tmp_path)


def test_the_lock_of_a_running_process_is_respected(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        holder(tmp_path, pid=other.pid, began="")
        for act in (take, refuse_if_held):
            with pytest.raises(ValueError, match=rf"another fit, process {other.pid} on .* remove {tmp_path / NAME}"):
                act(tmp_path)
        release(tmp_path)  # has no effect: it is not ours
        assert (tmp_path / NAME).exists()
        other.communicate(b"\n")
    with pytest.warns(UserWarning, match=f"was left by process {other.pid} on .*, which has ended"):
        take(tmp_path)


def test_a_killed_process_that_nobody_waits_for_holds_nothing(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        holder(tmp_path, pid=other.pid, began="")
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table of processes
        os.kill(other.pid, 0)
        with pytest.warns(UserWarning, match="which has ended"):
            take(tmp_path)
    finally:
        other.communicate()


def test_a_later_process_with_the_same_pid_is_another_process(tmp_path: Path) -> None:
    holder(tmp_path, pid=os.getppid(), began="0")
    with pytest.warns(UserWarning, match="which has ended"):
        take(tmp_path)


def test_a_lock_of_another_host_holds_unless_slurm_requeued_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder(tmp_path, host="elsewhere", pid=1, job="7")
    with pytest.raises(ValueError, match=f"process 1 on elsewhere.*remove {tmp_path / NAME}"):
        take(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(ValueError, match="process 1 on elsewhere"):
        take(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.warns(UserWarning, match="was left by process 1 on elsewhere"):
        take(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"host": "x", "pid": "y"}'])
def test_a_damaged_lock_is_ignored(content: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.warns(UserWarning, match="a process that it does not name"):
        take(tmp_path)


def test_a_lock_that_is_a_pipe_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.warns(UserWarning, match="a process that it does not name"):
        take(tmp_path)
