"""A real terminal for a function that runs in a forked process."""

from __future__ import annotations

import os
import pty
import re
import termios
from collections.abc import Callable

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(run: Callable[[], int | None], columns: int = 80) -> tuple[str, int]:
    """Run a function in a fork of this process whose output is a terminal; return what it wrote, and its exit code."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, columns))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number in (0, 1, 2):
                os.dup2(writer, number)
            os.environ["TERM"] = "xterm"
            import sys

            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # pytest has replaced it
            sys.stderr = sys.stdout
            code = run() or 0
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(writer)
    chunks = []
    while True:
        try:
            chunk = os.read(reader, 65536)
        except OSError:  # the last process has closed the terminal
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(reader)
    return b"".join(chunks).decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def drawn_in_terminal(run: Callable[[], int | None], columns: int = 80) -> list[str]:
    """Run a function in a terminal; return every line that was ever drawn, without colours."""
    text, code = in_terminal(run, columns)
    assert code == 0, text
    return [line for line in re.split(r"[\r\n]+", _SEQUENCE.sub("", text)) if line]
