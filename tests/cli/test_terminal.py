from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import in_terminal

from vlad_lightning.cli.terminal import Transcript, has_terminal, output_of_child, read_output


def transcript(path: Path, *chunks: bytes) -> list[str]:
    with path.open("wb") as file:
        record = Transcript(file)
        for chunk in chunks:
            record.write(chunk)
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"step 1/3\rstep 2/3\rstep 3/3\ndone\n", ["step 3/3", "done"]),  # tqdm
        (b"\x1b[?25lstep 1\r\x1b[2Kstep 2\n\x1b[?25h", ["step 2"]),  # rich
        (b"a 1\nb 1\r\x1b[2K\x1b[1A\x1b[2Ka 2\nb 2\n", ["a 2", "b 2"]),  # two bars of rich
        (b"\x1b[1;35mbold\x1b[0m\n", ["bold"]),
        (b"abcdef\rxy\x1b[K\n", ["xy"]),
        (b"abcdef\rxy\x1b[1K\n", ["  cdef"]),
        (b"one\ntwo\nthree\x1b[2A\x1b[J\n", ["one"]),
        ("ü ━\n".encode(), ["ü ━"]),
        (b"\xff\n", ["\ufffd"]),
    ],
)
def test_a_transcript_keeps_the_last_state_of_each_line(written: bytes, kept: list[str], tmp_path: Path) -> None:
    assert transcript(tmp_path / "whole", written) == kept
    single = [written[i : i + 1] for i in range(len(written))]
    assert transcript(tmp_path / "bytes", *single) == kept  # characters and sequences may be cut anywhere


def test_a_long_transcript_is_complete_at_any_time(tmp_path: Path) -> None:
    path, lines = tmp_path / "log", [f"line {i}" for i in range(1000)]
    with path.open("wb") as file:
        record = Transcript(file)
        for i, line in enumerate(lines):
            record.write(f"working\r{line}\x1b[K\n".encode())
            if i % 97 == 0:
                assert path.read_text().splitlines() == lines[: i + 1]
    assert path.read_text().splitlines() == lines


ASK = "import os, sys; print(sys.stdout.isatty(), sys.stdout.isatty() and os.get_terminal_size(1).columns)"


def asked(terminal: bool) -> str:
    with output_of_child(terminal) as (reader, writer):
        child = subprocess.Popen([sys.executable, "-c", ASK], stdout=writer)
        os.close(writer)
        found = b""
        while chunk := read_output(reader):
            found += chunk
        child.wait()
    return found.decode()


def test_a_child_gets_a_pipe_or_a_terminal_of_the_same_size() -> None:
    assert asked(terminal=False) == "False False\n"
    text, code = in_terminal(lambda: print(asked(terminal=True), end=""), columns=71)
    assert (text, code) == ("True 71\r\n", 0)


def test_there_is_a_terminal_if_it_can_redraw_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_terminal()  # pytest captures the output
    assert in_terminal(lambda: int(not has_terminal()))[1] == 0
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert in_terminal(lambda: int(has_terminal()))[1] == 0


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_dumb_terminal_is_none(kind: str) -> None:
    def run() -> int:
        os.environ["TERM"] = kind
        return int(has_terminal())

    assert in_terminal(run)[1] == 0
