from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from vlad_lightning.checkpoints.ranks import SaveFailedError, on_first


def fail(error: Exception) -> None:
    raise error


def test_alone_the_result_and_the_errors_are_its_own() -> None:
    assert on_first(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        on_first(lambda: 1 // 0)
    with pytest.raises(SaveFailedError, match=r"\[Errno 28\] No space left on device: 'x'") as told:
        on_first(lambda: fail(OSError(errno.ENOSPC, "No space left on device", Path("x"))))
    assert told.value.errno == errno.ENOSPC
    assert isinstance(told.value.__cause__, OSError)
    with pytest.raises(SaveFailedError, match=r"^no number$"):
        on_first(lambda: fail(OSError("no number")))


def test_the_error_can_be_sent() -> None:
    sent = pickle.loads(pickle.dumps(SaveFailedError(28, "No space left on device", "x")))
    assert (type(sent), str(sent)) == (SaveFailedError, "[Errno 28] No space left on device: 'x'")


PROCESS = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from vlad_lightning.checkpoints.ranks import on_each_node, on_first

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
acted = folder / f"acted{rank}"
assert on_first(lambda: (acted.touch(), "of the first")[1]) == "of the first"
assert acted.exists() is (rank == 0)
def fail(error):
    raise error
for error in (OSError(28, "No space left on device"), ValueError("a setting"), KeyError("a bug")):
    try:
        on_first(lambda: fail(error))
    except Exception as told:
        print(f"{type(told).__name__}: {told}")
os.environ["LOCAL_RANK"] = str(rank)  # two processes of one node
on_each_node((folder / f"seen{rank}").touch)
assert (folder / f"seen{rank}").exists() is (rank == 0)
os.environ["LOCAL_RANK"] = "0"  # a node each
for bad in (0, 1):
    try:
        on_each_node(lambda: fail(KeyError(f"of {bad}")) if rank == bad else None)
    except Exception as told:
        print(f"{type(told).__name__}: {told}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_all_processes_learn_how_it_went(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    try:
        told = [process.communicate(timeout=250)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    same = "SaveFailedError: [Errno 28] No space left on device\nValueError: a setting\n"
    first, second = (text.removeprefix(same).splitlines() for text in told)
    assert first == ["KeyError: 'a bug'", "KeyError: 'of 0'", "ValueError: 'of 1' (process 1)"]
    assert second == [
        *("RuntimeError: process 0 failed: KeyError: 'a bug'", "ValueError: 'of 0' (process 0)", "KeyError: 'of 1'")
    ]
