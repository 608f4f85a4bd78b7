"""The rows of a scored folder: a CSV file with one line an image, which a run that was killed goes on from."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from vlad_lightning.evaluation.suite import Measure
from vlad_lightning.files import LIST_BYTES, NOTE_BYTES, check_file, read_utf8, write_text

IMAGE_COLUMNS = (
    *("key", "subset", "number", "file", "sha256", "width", "height"),
    *("seed", "reader", "lines", "words", "problem"),
)
"""The columns before those of the measures.

``key``, ``subset`` and ``number`` name the image, ``file`` and ``sha256`` its file. ``lines`` is a JSON list of texts,
``words`` one of [text, confidence, x1, y1, ..., x4, y4] with the corners in fractions of the frame. ``problem`` says
why an image cannot be read; its numbers are then empty."""

Row = Mapping[str, str]


def measure_columns(measures: Sequence[Measure]) -> list[str]:
    """Return the names of the measures' columns in the file: with the measure's name before them, if it has one."""
    return [column_name(measure, column) for measure in measures for column in measure.columns]


def column_name(measure: Measure, column: str) -> str:
    """Return the name in the file of a measure's column."""
    return f"{measure.name}_{column}" if measure.name else column


class RowFile:
    """Rows of one reader, written line by line.

    Beside ``rows.csv`` stands ``rows.json``: what the rows depend on. Every line ends with its end of line, so that one
    that a kill cut off is seen, and cut off.

    Args:
        path: the file, ending in ``.csv``; it is made with its folder.
        columns: its columns.
        made_of: what the rows depend on, besides the images; can be written as JSON.

    Raises:
        ValueError: if the file's rows depend on something else, or it is damaged elsewhere than at its end.
        BlockingIOError: if another process is writing it.
    """

    def __init__(self, path: Path, columns: Sequence[str], made_of: Mapping[str, Any]) -> None:
        self.path, self.columns = path, list(columns)
        note = path.with_suffix(".json")
        now = json.loads(json.dumps(dict(made_of)))
        if path.exists():
            _compare(note, now, path)
        else:
            write_text(note, json.dumps(now, indent=1) + "\n")
            write_text(path, _line(self.columns))
        self._file: TextIO = path.open("r+", encoding="utf-8", errors="surrogateescape", newline="")
        try:
            _lock(self._file, path)
            self.rows = self._read()
        except BaseException:
            self._file.close()
            raise

    def append(self, row: Mapping[str, object]) -> None:
        """Write a row; once this returns, a kill of the process does not lose it."""
        cells = [row[column] for column in self.columns]
        line = _line(cells)
        self._file.write(line)
        self._file.flush()
        self.rows.append(_parse(line, self.columns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sort(self, order: Mapping[tuple[str, str], int]) -> None:
        """Write the rows again in an order, so that they do not tell in which order the images were read.

        Args:
            order: the place of each (key, number).
        """
        self.rows.sort(key=lambda row: order[row["key"], row["number"]])
        write_text(
            self.path, "".join(map(_line, [self.columns, *([row[c] for c in self.columns] for row in self.rows)]))
        )

    def _read(self) -> list[Row]:
        content = self._file.read()
        whole = content[: content.rfind("\n") + 1]
        lines = [line + "\n" for line in whole.split("\n")[:-1]]
        if not lines or lines[0] != _line(self.columns):
            raise ValueError(f"{self.path} is damaged: its first line does not name the columns; remove it")
        rows: list[Row] = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                rows.append(_parse(line, self.columns))
            except ValueError as error:
                if number < len(lines):
                    raise ValueError(f"{self.path} is damaged in line {number}: {error}; remove it") from error
                whole = "".join(lines[:-1])
        self._file.seek(0)
        self._file.truncate(len(whole.encode("utf-8", "surrogateescape")))
        self._file.seek(0, io.SEEK_END)
        names = [(row["key"], row["number"]) for row in rows]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.path} is damaged: an image occurs twice; remove it")
        return rows


@contextlib.contextmanager
def open_rows(path: Path, columns: Sequence[str], made_of: Mapping[str, Any]) -> Iterator[RowFile]:
    """Open a :class:`RowFile` and close it."""
    rows = RowFile(path, columns, made_of)
    try:
        yield rows
    finally:
        rows.close()


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a finished run.

    Raises:
        OSError: if there is no such file.
        ValueError: if it does not hold rows.
    """
    check_file(path, LIST_BYTES)
    lines = read_utf8(path, LIST_BYTES).splitlines(keepends=True)
    columns = next(csv.reader(lines[:1]), [])
    if columns[: len(IMAGE_COLUMNS)] != [*IMAGE_COLUMNS]:
        raise ValueError(f"{path} does not hold the rows of `vlad-cli evaluate score`")
    return [_parse(line, columns) for line in lines[1:]]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _parse(line: str, columns: Sequence[str]) -> Row:
    """Return a line's cells by column; texts with ends of line are JSON, so a row is a line."""
    if "\0" in line:
        raise ValueError("it holds a NUL")
    cells = next(csv.reader([line], strict=True), [])
    if len(cells) != len(columns):
        raise ValueError(f"it has {len(cells)} cells; {len(columns)} are needed")
    return dict(zip(columns, cells, strict=True))


def _compare(note: Path, now: Mapping[str, Any], path: Path) -> None:
    try:
        before = json.loads(read_utf8(note, NOTE_BYTES))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is there without a readable {note.name}; remove it, or name another --out") from error
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        raise ValueError(f"{path} holds rows with another {' and '.join(changed)}; name another --out")


def _lock(file: TextIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{path} is being written by another process; wait for it") from error
