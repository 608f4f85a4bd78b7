"""Reads a second, requests and bytes of a prepared data set in a folder, over HTTP and by the S3 client.

python benchmarks/remote_set.py --reads 100 --delay 0.02

The server is a thread of this process that answers each request after a delay, as a storage that is far away does.
One process reads one sample after the other; a loader's processes read as many at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from markdown_table import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
_SHARDS = 100  # more than a process keeps open


def measure(root: str, server: Any, reads: int) -> tuple[str, ...]:
    """Open a set twice, as two commands do, and read samples at random."""
    from vlad_lightning.data.prepared_source import PreparedSource

    opened, fetched = [], []
    for _ in range(2):
        server.sent.clear()
        start = time.perf_counter()
        source = PreparedSource(root)
        source.setup()
        opened.append(f"{time.perf_counter() - start:.2f}")
        fetched.append(f"{sum(count for _, count in server.sent) / 1e3:.0f}")
    server.sent.clear()
    server.asked = 0
    start, cpu = time.perf_counter(), time.process_time()
    for index in np.random.default_rng(0).integers(0, len(source), reads).tolist():
        source.read(index)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    requests = server.asked / reads
    size = sum(count for _, count in server.sent) / reads / 1e3
    figures = (f"{reads / wall:.0f}", f"{1e3 * cpu / reads:.1f}", f"{requests:.1f}", f"{size:.1f}")
    return (", ".join(opened), ", ".join(fetched), *figures)


def main() -> None:
    """Measure a folder, HTTP and S3, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reads", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds before each answer")
    options = parser.parse_args()
    from prepared_sets import jpeg, made_up_set  # of tests/
    from range_server import serving

    with tempfile.TemporaryDirectory() as folder:
        root = made_up_set(Path(folder, "bucket", "set"), 1000 * _SHARDS, image=jpeg(0, (512, 512)))
        shard = root / "shards" / "s.arrow"
        names = [f"s{number}" for number in range(_SHARDS)]
        for name in names:
            shard.with_stem(name).hardlink_to(shard)
        note = json.loads((root / "prepared.json").read_text())
        note["shards"] = [[name, 1000] for name in names]
        (root / "prepared.json").write_text(json.dumps(note))
        with serving(Path(folder)) as server:
            server.delay = options.delay
            os.environ |= {"VLAD_CACHE": f"{folder}/cache", "AWS_ENDPOINT_URL": server.url}
            os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
            roots = {"folder": str(root), "HTTP": f"{server.url}/bucket/set", "S3": "s3://bucket/set"}
            rows = [(name, *measure(url, server, options.reads)) for name, url in roots.items()]
    print(f"{_SHARDS} shards of a thousand samples, {1e3 * options.delay:g} ms a request")
    header = ("root", "opened s (first, again)", "kB", "reads/s", "CPU ms", "requests a read", "kB a read")
    table(header, rows)


if __name__ == "__main__":
    main()
