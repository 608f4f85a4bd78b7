"""A shard of a prepared data set: a file in Arrow's IPC format with a record batch for each sample.

With a batch for each sample, reading one takes two short ranges of the file, wherever it is in it. Files are read with
``pread``, not mapped into memory, so that a disk that goes away is an error that can be waited for, not a signal that
ends the process. Needs the ``data`` extra.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlad_lightning.data.remote_path import Place, RemotePath
from vlad_lightning.files import write_file

SUFFIX = ".arrow"
_MOST_OPEN = 64  # files that a process keeps open: others of its 1024 are needed elsewhere


@dataclass(frozen=True)
class PreparedRow:
    """A sample as it is stored.

    Attributes:
        key: its name in the set: at most 16 characters of ASCII.
        name: where it came from, for reports; printable.
        caption: one line, not empty.
        prompt: the caption with quotes around the words that are drawn.
        ocr: the words that were read, as in ``ocr.txt``, with their corners in the frame.
        scene: the content of ``scene.json``; empty if there is none.
        image: the content of a picture's file.
        width: of the picture in pixels.
        height: likewise.
    """

    key: str
    name: str
    caption: str
    prompt: str
    ocr: str
    scene: str
    image: bytes
    width: int
    height: int


def write_shard(path: Path, rows: Iterable[PreparedRow]) -> None:
    """Write a shard, atomically.

    Args:
        path: the file.
        rows: its samples, taken one by one, so that memory never holds all of them.

    Raises:
        ValueError: if pyarrow is missing.
        OSError: if it cannot be written.
    """
    arrow, schema = import_arrow(), _schema()

    def write(beside: Path) -> None:
        with arrow.OSFile(str(beside), "wb") as sink, arrow.ipc.new_file(sink, schema) as file:
            for row in rows:
                arrays = [arrow.array([value], type=schema.field(name).type) for name, value in asdict(row).items()]
                file.write_batch(arrow.record_batch(arrays, schema=schema))

    write_file(path, write)


class ShardReader:
    """Reads single rows of the shards in a folder; the last ones that were read stay open.

    It can be pickled and forked: files that were opened before are opened again in the other process.

    Args:
        folder: holds the shards; local or remote.
        without: columns that are not read.
    """

    def __init__(self, folder: Place, without: Sequence[str] = ()) -> None:
        self.folder = folder
        self.without = tuple(without)
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._process = os.getpid()

    def __call__(self, shard: str, row: int) -> Mapping[str, Any]:
        """Return a row's values by column.

        Raises:
            OSError: if the system fails to read.
            ValueError: if the file is damaged, or pyarrow is missing.
            IndexError: if there is no such row.
        """
        return dict(self.batch(shard, row).to_pylist()[0])

    def batch(self, shard: str, row: int) -> Any:
        """Return a row as a record batch of pyarrow.

        Raises:
            OSError, ValueError, IndexError: as a call.
        """
        file = self._opened(shard)
        if not 0 <= row < file.num_record_batches:
            raise IndexError(f"{self.folder / shard} has {file.num_record_batches} rows and no row {row}")
        try:
            return file.get_batch(row)
        except (OSError, ValueError):
            del self._files[shard]  # after an outage an open file may stay unreadable
            raise

    def _opened(self, shard: str) -> Any:
        if self._process != os.getpid():
            self._files.clear()
            self._process = os.getpid()
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        arrow = import_arrow()
        path = self.folder / f"{shard}{SUFFIX}"
        source = arrow.PythonFile(path.open(), "r") if isinstance(path, RemotePath) else arrow.OSFile(str(path), "rb")
        file = arrow.ipc.open_file(source)
        if self.without:
            read = [number for number, name in enumerate(file.schema.names) if name not in self.without]
            file = arrow.ipc.open_file(source, options=arrow.ipc.IpcReadOptions(included_fields=read))
        self._files[shard] = file
        if len(self._files) > _MOST_OPEN:
            self._files.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "without": self.without, "_files": OrderedDict(), "_process": 0}


def _schema() -> Any:
    arrow = import_arrow()
    texts = [(name, arrow.string()) for name in ("key", "name", "caption", "prompt", "ocr", "scene")]
    return arrow.schema([*texts, ("image", arrow.binary()), ("width", arrow.int32()), ("height", arrow.int32())])


def import_arrow() -> Any:
    """Return pyarrow.

    Raises:
        ValueError: if it is missing.
    """
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError as error:
        raise ValueError("prepared data sets are stored with pyarrow: pip install 'vlad-lightning[data]'") from error
    return pyarrow
