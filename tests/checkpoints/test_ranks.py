from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torch import distributed as dist

from vlad_lightning.checkpoints.ranks import SaveFailedError, on_each_node, on_first


def fail(error: Exception) -> None:
    raise error


def test_a_single_process_gets_its_own_result_and_errors() -> None:
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


def act_as(rank: int, folder: Path) -> None:
    """Run one process of two; write the reported outcomes of its own and of the other's actions into a file."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    acted = folder / f"acted{rank}"
    assert on_first(lambda: (acted.touch(), "of the first")[1]) == "of the first"
    assert acted.exists() is (rank == 0)
    for error in (OSError(28, "No space left on device"), ValueError("a setting"), KeyError("a bug")):
        note(folder / f"told{rank}", partial(on_first, partial(fail, error)))
    os.environ["LOCAL_RANK"] = str(rank)  # two processes of one node
    on_each_node((folder / f"seen{rank}").touch)
    assert (folder / f"seen{rank}").exists() is (rank == 0)
    os.environ["LOCAL_RANK"] = "0"  # one node each
    for bad in (0, 1):
        act = partial(fail, KeyError(f"of {bad}")) if rank == bad else dict
        note(folder / f"told{rank}", partial(on_each_node, act))
    dist.destroy_process_group()


def note(path: Path, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as told:
        with path.open("a") as file:
            file.write(f"{type(told).__name__}: {told}\n")


def test_all_processes_get_the_outcome(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=act_as, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        process.kill()
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    same = "SaveFailedError: [Errno 28] No space left on device\nValueError: a setting\n"
    first, second = ((tmp_path / f"told{rank}").read_text().removeprefix(same).splitlines() for rank in (0, 1))
    assert first == ["KeyError: 'a bug'", "KeyError: 'of 0'", "ValueError: 'of 1' (process 1)"]
    assert second == [
        *("RuntimeError: process 0 failed: KeyError: 'a bug'", "ValueError: 'of 0' (process 0)", "KeyError: 'of 1'")
    ]
