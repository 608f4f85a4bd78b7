from __future__ import annotations

import subprocess
import sys

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
