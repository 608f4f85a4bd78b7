"""Ways to store millions of small samples, compared: random reads, a column added later, and reading after a fork.

python benchmarks/storage.py --samples 3000 --reads 1500

Lance (pylance) and litdata are measured if they are installed; the project does not need them. Reads are of one sample
each, in a random order, with the files in the page cache: the figures are costs of the formats, not of a disk.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markdown_table import table

_BYTES = 30_000  # of a picture
_LATENT = 4 * 64 * 64 * 2  # bytes of a cached latent: 4 channels of 64 x 64 in half precision
_PER_SHARD = 1000
_FORKS, _PATIENCE = 8, 60.0  # processes that read after a fork, and seconds that they have

Row = tuple[str, str, bytes]
Read = Callable[[int], tuple[str, bytes]]


class Storage(NamedTuple):
    """A format: how it is written and read by number, and how a column is added (None if it cannot be)."""

    name: str
    write: Callable[[Path, Sequence[Row]], None]
    open: Callable[[Path], Read]
    add: Callable[[Path, Sequence[bytes]], None] | None


def write_folders(root: Path, rows: Sequence[Row]) -> None:
    """Write a folder for each sample, as MARIO does."""
    for number, (key, caption, image) in enumerate(rows):
        folder = root / f"{number:09d}"
        folder.mkdir(parents=True)
        (folder / "image.jpg").write_bytes(image)
        (folder / "caption.txt").write_text(caption)
        (folder / "ocr.txt").write_text(key)


def open_folders(root: Path) -> Read:
    """Read the three files of a sample."""

    def read(index: int) -> tuple[str, bytes]:
        folder = root / f"{index:09d}"
        (folder / "ocr.txt").read_text()
        return (folder / "caption.txt").read_text(), (folder / "image.jpg").read_bytes()

    return read


def add_files(root: Path, values: Sequence[bytes]) -> None:
    """Write one more file for each sample."""
    for number, value in enumerate(values):
        (root / f"{number:09d}" / "latent.npy").write_bytes(value)


def write_arrow(root: Path, rows: Sequence[Row]) -> None:
    """Write Arrow's IPC files, a record batch for each sample, so that a read is one range of a file."""
    import pyarrow as pa

    schema = pa.schema([("key", pa.string()), ("caption", pa.string()), ("image", pa.binary())])
    for number, shard in enumerate(_shards(rows)):
        with pa.OSFile(str(root / f"{number:06d}.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
            for row in shard:
                file.write_batch(pa.record_batch([pa.array([value]) for value in row], schema=schema))


def open_arrow(root: Path) -> Read:
    """Read one record batch."""
    import pyarrow as pa

    files = [pa.ipc.open_file(pa.OSFile(str(path), "rb")) for path in sorted(root.glob("*.arrow"))]

    def read(index: int) -> tuple[str, bytes]:
        batch = files[index // _PER_SHARD].get_batch(index % _PER_SHARD)
        return batch.column(1)[0].as_py(), batch.column(2)[0].as_py()

    return read


def open_arrow_each(root: Path) -> Read:
    """Read one record batch of a file that is opened for it, as if there were too many to keep them open."""
    import pyarrow as pa

    paths = sorted(root.glob("*.arrow"))

    def read(index: int) -> tuple[str, bytes]:
        with pa.OSFile(str(paths[index // _PER_SHARD]), "rb") as source:
            batch = pa.ipc.open_file(source).get_batch(index % _PER_SHARD)
            return batch.column(1)[0].as_py(), batch.column(2)[0].as_py()

    return read


def add_arrow(root: Path, values: Sequence[bytes]) -> None:
    """Write files with the same rows beside the others."""
    import pyarrow as pa

    schema = pa.schema([("latent", pa.binary())])
    (root / "latents").mkdir()
    for number, shard in enumerate(_shards(values)):
        path = root / "latents" / f"{number:06d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
            for value in shard:
                file.write_batch(pa.record_batch([pa.array([value])], schema=schema))


def write_lance(root: Path, rows: Sequence[Row]) -> None:
    """Write a Lance data set, a fragment for each shard."""
    import lance
    import pyarrow as pa

    table = pa.table(dict(zip(("key", "caption", "image"), map(list, zip(*rows, strict=True)), strict=True)))
    lance.write_dataset(table, str(root / "set.lance"), max_rows_per_file=_PER_SHARD)


def open_lance(root: Path) -> Read:
    """Take one row."""
    import lance

    dataset = lance.dataset(str(root / "set.lance"))

    def read(index: int) -> tuple[str, bytes]:
        row = dataset.take([index], columns=["key", "caption", "image"])
        return row["caption"][0].as_py(), row["image"][0].as_py()

    return read


def add_lance(root: Path, values: Sequence[bytes]) -> None:
    """Add a column; the other columns are not written again."""
    import lance
    import pyarrow as pa

    shards = (pa.record_batch({"latent": pa.array(shard)}) for shard in _shards(values))
    schema = pa.schema([("latent", pa.binary())])
    lance.dataset(str(root / "set.lance")).add_columns(pa.RecordBatchReader.from_batches(schema, shards))


def write_tars(root: Path, rows: Sequence[Row]) -> None:
    """Write tars in WebDataset's form, with the places of the pictures and texts beside them."""
    for number, shard in enumerate(_shards(rows)):
        with tarfile.open(root / f"{number:06d}.tar", "w") as tar:
            for key, caption, image in shard:
                for suffix, content in (("json", key.encode()), ("txt", caption.encode()), ("jpg", image)):
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        with tarfile.open(root / f"{number:06d}.tar") as tar:
            places = [(entry.offset_data, entry.size) for entry in tar]
        np.save(root / f"{number:06d}.npy", np.array(places, dtype=np.int64).reshape(-1, 3, 2))


def open_tars(root: Path) -> Read:
    """Read the ranges of a sample's three members."""
    tars = [os.open(path, os.O_RDONLY) for path in sorted(root.glob("*.tar"))]
    places = [np.load(path, mmap_mode="r") for path in sorted(root.glob("*.npy"))]

    def read(index: int) -> tuple[str, bytes]:
        shard, row = divmod(index, _PER_SHARD)
        _, caption, image = (os.pread(tars[shard], int(size), int(start)) for start, size in places[shard][row])
        return caption.decode(), image

    return read


def write_litdata(root: Path, rows: Sequence[Row]) -> None:
    """Write litdata's chunks with its own writer."""
    from litdata.streaming.cache import Cache

    cache = Cache(str(root), chunk_size=_PER_SHARD)
    for number, (key, caption, image) in enumerate(rows):
        cache[number] = {"key": key, "caption": caption, "image": image}
    cache.done()
    cache.merge()


def open_litdata(root: Path) -> Read:
    """Read a sample of a streaming data set by its number."""
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(root))

    def read(index: int) -> tuple[str, bytes]:
        row: Any = dataset[index]
        return row["caption"], row["image"]

    return read


STORAGES = (
    Storage("folders of files", write_folders, open_folders, add_files),
    Storage("Arrow IPC files", write_arrow, open_arrow, add_arrow),
    Storage("the same, opened for each read", write_arrow, open_arrow_each, None),
    Storage("Lance", write_lance, open_lance, add_lance),
    Storage("tars with offsets", write_tars, open_tars, None),
    Storage("litdata", write_litdata, open_litdata, None),
)


def measure(storage: Storage, root: Path, rows: Sequence[Row], order: Sequence[int]) -> tuple[str, ...]:
    """Return a format's row of the table."""
    root.mkdir()
    write, _ = _timed(lambda: storage.write(root, rows))
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    read = storage.open(root)
    if any(read(index) != rows[index][1:] for index in order[:20]):
        raise ValueError(f"{storage.name} reads another sample than was written")
    wall, cpu = _timed(lambda: [read(index) for index in order])
    forked = _after_fork(read, order)
    add = "-" if storage.add is None else f"{_timed(lambda: _add(storage, root, len(rows)))[0]:.1f}"
    return (
        storage.name,
        f"{write:.1f}",
        f"{size / 1e6:.0f}",
        f"{len(order) / wall:,.0f}",
        f"{cpu / len(order) * 1e3:.3f}",
        f"{forked} of {_FORKS}",
        add,
    )


def _add(storage: Storage, root: Path, number: int) -> None:
    rng = np.random.default_rng(1)
    assert storage.add is not None
    storage.add(root, [rng.bytes(_LATENT) for _ in range(number)])


def _after_fork(read: Read, order: Sequence[int]) -> int:
    """Return how many of several processes, forked after this one has read, read to their end."""
    children = []
    for _ in range(_FORKS):
        if not (child := os.fork()):
            for index in order[:50]:
                read(index)
            os._exit(0)
        children.append(child)
    end = time.monotonic() + _PATIENCE
    ended: dict[int, int] = {}
    while len(ended) < len(children) and time.monotonic() < end:
        for child in set(children) - set(ended):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended[child] = status
        time.sleep(0.2)
    for child in set(children) - set(ended):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return sum(status == 0 for status in ended.values())


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the clock and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _shards(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), _PER_SHARD):
        yield rows[start : start + _PER_SHARD]


def main() -> None:
    """Measure each format that is installed, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--reads", type=int, default=1500)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = [(f"{i:09d}", f"a poster that says {i}", rng.bytes(_BYTES)) for i in range(options.samples)]
    order = rng.integers(options.samples, size=options.reads).tolist()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, storage in enumerate(STORAGES):
            root = Path(folder, str(number))
            try:
                found.append(measure(storage, root, rows, order))
            except ModuleNotFoundError as error:
                print(f"{storage.name} is not measured: {error}")
            shutil.rmtree(root)
    table(("format", "write s", "MB", "reads/s", "CPU ms a read", "read after a fork", "add a column s"), found)


if __name__ == "__main__":
    main()
