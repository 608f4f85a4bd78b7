"""Cost of a durable checkpoint on this machine: hashing, writing, fsync, reading back, the copy for background saves.

python benchmarks/checkpoints.py --folder runs --gigabytes 1
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vlad_lightning.checkpoints.checksum import verify
from vlad_lightning.checkpoints.io import DurableCheckpointIO, snapshot

_TENSOR = 1 << 24  # floats: 67 MB


def main() -> None:
    """Print a table; a row is the fastest of its repeats, because other work on the machine only adds time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk that is to be measured")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    count = max(1, round(options.gigabytes * 1e9 / 4 / _TENSOR))
    state = {f"w{i}": torch.rand(_TENSOR, generator=torch.Generator().manual_seed(i)) for i in range(count)}
    size = count * _TENSOR * 4
    print(
        f"{size / 1e9:.2f} GB in {options.folder.resolve().name}/, {os.cpu_count()} cores, torch {torch.__version__}\n"
    )
    print("| what | s | GB/s | GB per second of CPU time |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for title, run in _rows(state, Path(name)):
            times = [_seconds(run) for _ in range(options.repeats)]
            wall, processor = min(wall for wall, _ in times), min(processor for _, processor in times)
            print(f"| {title} | {wall:.2f} | {size / wall / 1e9:.2f} | {size / processor / 1e9:.2f} |", flush=True)


def _rows(state: dict[str, torch.Tensor], folder: Path) -> list[tuple[str, Callable[[], object]]]:
    views = [memoryview(value.numpy().data).cast("B") for value in state.values()]
    plain, durable, saver = folder / "plain.ckpt", folder / "durable.ckpt", DurableCheckpointIO()

    def hash_all() -> None:
        digest = hashlib.sha256()
        for view in views:
            digest.update(view)

    def sync() -> None:
        torch.save(state, plain)
        with plain.open("rb") as file:
            os.fsync(file.fileno())

    def check() -> None:
        os.utime(durable)  # a verified file is not read again until its modification time changes
        verify(durable)

    return [
        ("SHA-256 of what is in memory", hash_all),
        ("torch.save, left to the system's cache", lambda: torch.save(state, plain)),
        ("torch.save and fsync", sync),
        (
            "DurableCheckpointIO: the same, SHA-256, rename, fsync of the folder",
            lambda: saver.save_checkpoint(state, durable),
        ),
        ("verify, from the system's cache", check),
        ("torch.load, from the system's cache", lambda: torch.load(durable, weights_only=True)),
        ("the copy that a save in the background waits for", lambda: snapshot(state)),
    ]


def _seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock seconds and the processor seconds of the process' threads."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
