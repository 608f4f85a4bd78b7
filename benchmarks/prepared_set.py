"""Seconds to the first batch, and memory, of a prepared data set of many made-up entries.

python benchmarks/prepared_set.py --samples 10000000

Two processes are measured, with ten samples and with all: the difference is what the length costs. Memory is the
process's own: resident pages that are not those of files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from markdown_table import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def measure(root: str) -> dict[str, float]:
    """Read the first batch of a set, in this process."""
    from vlad_lightning.data.datamodule import MarioDataModule

    before = _memory()
    wall, cpu = time.perf_counter(), time.process_time()
    module = MarioDataModule(root, size=64, batch_size=16)
    next(iter(module.train_dataloader()))
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return found | {"before": before["RssAnon"], "after": _memory()["RssAnon"], "peak": _memory()["VmHWM"]}


def _memory() -> dict[str, float]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in ("RssAnon:", "VmHWM:")}


def main() -> None:
    """Measure both, or, with ``--root``, one in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--root", help="measure this set, and print the figures as JSON")
    options = parser.parse_args()
    if options.root:
        print(json.dumps(measure(options.root)))
        return
    from prepared_sets import made_up_set  # of tests/

    rows = []
    for samples in (10, options.samples):
        with tempfile.TemporaryDirectory() as folder:
            root = made_up_set(Path(folder, "set"), samples)
            command = [sys.executable, __file__, "--root", str(root)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
        more = found["after"] - found["before"]
        figures = (found["wall"], found["cpu"], found["before"], more, found["peak"])
        rows.append((f"{samples:,}", *(f"{value:.1f}" for value in figures)))
    table(("samples", "seconds", "of the CPU", "MB before", "MB more", "MB at most, with files"), rows)


if __name__ == "__main__":
    main()
