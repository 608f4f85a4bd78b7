"""Start a script in several processes that find each other, as torchrun does, with a time limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_processes(count: int, script: Path, *args: str, limit: float = 240) -> None:
    """Run ``script`` as ``count`` ranks of one node; if one fails, fail with the end of their output.

    If one fails or time is up, the others are killed, because they would wait for it.
    """
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(script.parent)]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.log") for rank in range(count)]
        processes = []
        for rank, log in enumerate(logs):
            with log.open("w") as file:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *args],
                        env=common | {"LOCAL_RANK": str(rank), "RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )
        codes = _wait(processes, limit)
        if any(codes):
            told = (
                f"--- rank {rank}, code {code}\n{log.read_text()[-4000:]}"
                for rank, (code, log) in enumerate(zip(codes, logs, strict=True))
            )
            raise AssertionError(f"{script.name} failed or took more than {limit} s\n" + "\n".join(told))


def _wait(processes: list[subprocess.Popen[bytes]], limit: float) -> list[int]:
    end = time.monotonic() + limit
    try:
        while time.monotonic() < end:
            codes = [process.poll() for process in processes]
            if all(code is not None for code in codes) or any(codes):
                break
            time.sleep(0.2)
        time.sleep(
            0.5 if any(process.poll() for process in processes) else 0
        )  # so that the others can finish their output
    finally:
        for process in processes:
            process.kill()
    return [process.wait() for process in processes]
