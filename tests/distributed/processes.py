"""Start a script in several processes that find each other, as torchrun does, with a time limit.

The processes are forks of one that has imported torch and Lightning, which takes ten seconds of a core.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["vlad_lightning.cli.fit", "torch.distributed.checkpoint", "torch.distributed.fsdp"])


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_processes(count: int, script: Path, *args: str, limit: float = 240) -> None:
    """Run ``script`` as ``count`` ranks of one node; if one fails, fail with the end of their output.

    If one fails or time is up, the others are killed, because they would wait for it.
    """
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.log") for rank in range(count)]
        processes = [
            start(script, args, common | {"LOCAL_RANK": str(rank), "RANK": str(rank)}, log)
            for rank, log in enumerate(logs)
        ]
        codes = _wait(processes, limit)
        if any(codes):
            told = (
                f"--- rank {rank}, code {code}\n{log.read_text()[-4000:]}"
                for rank, (code, log) in enumerate(zip(codes, logs, strict=True))
            )
            raise AssertionError(f"{script.name} failed or took more than {limit} s\n" + "\n".join(told))


def start(
    script: Path,
    args: Sequence[str],
    environment: Mapping[str, str],
    out: Path,
    err: Path | None = None,
    cwd: Path | None = None,
) -> ForkServerProcess:
    """Start a script as ``python script *args`` does, without its imports.

    Args:
        script: the script; the folder of tests and its own are on its path.
        args: its arguments.
        environment: variables beside those of this process.
        out: file for its output.
        err: file for its errors; by default they go to ``out``.
        cwd: its working directory; by default that of this process.
    """
    for file in (out, err or out):
        file.touch()
    streams = (out.absolute(), (err or out).absolute())
    process = _SERVER.Process(target=_run, args=(script, [*args], {**os.environ, **environment}, *streams, cwd))
    process.start()
    return process


def ended(
    processes: Sequence[ForkServerProcess], outputs: Sequence[Path], errors: Sequence[Path], limit: float
) -> list[subprocess.CompletedProcess[str]]:
    """Wait for processes, kill those that take more than ``limit`` seconds, and return what they said."""
    end = time.monotonic() + limit
    try:
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [
        subprocess.CompletedProcess([], process.exitcode or 0, out.read_text(), err.read_text())
        for process, out, err in zip(processes, outputs, errors, strict=True)
    ]


def _run(script: Path, args: list[str], environment: dict[str, str], out: Path, err: Path, cwd: Path | None) -> None:
    import torch
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    os.environ.update(environment)
    os.chdir(cwd or Path.cwd())
    for number, file in enumerate((Path(os.devnull), out, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_APPEND), number)
    torch.set_num_threads(1)
    rank_zero_only.rank = int(environment.get("RANK", "0"))  # Lightning sets it when it is imported
    sys.path[:0] = [str(script.parent), str(ROOT), str(ROOT / "tests")]
    sys.argv = [str(script), *args]
    runpy.run_path(str(script), run_name="__main__")


def _wait(processes: Sequence[ForkServerProcess], limit: float) -> list[int | None]:
    end = time.monotonic() + limit
    try:
        while time.monotonic() < end:
            codes = [process.exitcode for process in processes]
            if all(code is not None for code in codes) or any(codes):
                break
            time.sleep(0.2)
        time.sleep(0.5 if any(process.exitcode for process in processes) else 0)  # for the others' output
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]
