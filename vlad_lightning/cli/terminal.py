"""The terminal of a command: whether there is one, one for a process whose output is copied, and what it shows."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[^\[]|[\r\n]|[^\x1b\r\n]+")
_CUT_SHORT = re.compile(r"\x1b(\[[0-9;?]*)?$")  # the rest of the sequence is in the next chunk
_ROWS = 100  # lines that a progress display may still change


def has_terminal() -> bool:
    """Return whether output is shown by a terminal that can redraw a line; a notebook's cannot."""
    notebook = "JPY_PARENT_PID" in os.environ
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") and not notebook


@contextlib.contextmanager
def output_of_child(terminal: bool) -> Iterator[tuple[int, int]]:
    """Open a pipe, or a terminal of the size of this process's own, through which a child's output is read.

    Args:
        terminal: open a terminal, with which the child draws its progress bars; only on POSIX systems.

    Yields:
        The descriptor to read from, and the one that the child writes to; the caller closes the latter.
    """
    if not terminal:
        reader, writer = os.pipe()
        try:
            yield reader, writer
        finally:
            os.close(reader)
        return
    import termios

    reader, writer = os.openpty()
    modes = termios.tcgetattr(writer)
    modes[1] &= ~termios.OPOST  # the outer terminal adds the carriage returns
    termios.tcsetattr(writer, termios.TCSANOW, modes)

    def resize(*_: object) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(reader, termios.tcgetwinsize(sys.stdout.fileno()))

    resize()
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield reader, writer
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)


def read_output(reader: int) -> bytes:
    """Read what has been written; empty at the end, which a terminal reports as an error."""
    try:
        return os.read(reader, 65536)
    except OSError:
        return b""


class Transcript:
    """A text file of what a terminal shows: of a line that is redrawn, such as a progress bar, the last state.

    Args:
        file: an empty file that can be sought.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rows, self._row, self._column, self._rest = [""], 0, 0, ""
        self._settled = 0  # where in the file the lines begin that may still change

    def write(self, chunk: bytes) -> None:
        """Follow the output of a program; the file is up to date afterwards."""
        text = self._rest + self._decoder.decode(chunk)
        cut = _CUT_SHORT.search(text)
        text, self._rest = (text[: cut.start()], cut[0]) if cut else (text, "")
        for token in _TOKEN.finditer(text):
            if token[2]:
                self._move(token[2], int(token[1]) if token[1].isdigit() else 0)
            elif not token[0].startswith("\x1b"):
                self._put(token[0])
        self._store()

    def _put(self, text: str) -> None:
        if text == "\r":
            self._column = 0
        elif text == "\n":
            self._go_to(self._row + 1)
            self._column = 0
        else:
            row = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = row[: self._column] + text + row[self._column + len(text) :]
            self._column += len(text)

    def _move(self, command: str, number: int) -> None:
        """Follow the sequences that move the cursor up and down or erase; colours and the others are left out."""
        if command in "AB":
            self._go_to(self._row + max(number, 1) * (1 if command == "B" else -1))
        elif command == "K":
            row = self._rows[self._row]
            kept = {0: row[: self._column], 1: " " * self._column + row[self._column :]}
            self._rows[self._row] = kept.get(number, "")
        elif command == "J":
            del self._rows[self._row + 1 :]

    def _go_to(self, row: int) -> None:
        self._row = max(row, 0)
        self._rows += [""] * (self._row + 1 - len(self._rows))

    def _store(self) -> None:
        self._file.seek(self._settled)
        self._file.truncate()
        if (done := len(self._rows) - _ROWS) > 0 and self._row >= done:
            self._settled += self._file.write("".join(f"{row.rstrip()}\n" for row in self._rows[:done]).encode())
            del self._rows[:done]
            self._row -= done
        self._file.write("\n".join(row.rstrip() for row in self._rows).encode())
        self._file.flush()
