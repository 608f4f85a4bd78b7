"""Measure the speeds of this machine, as a table: ``make bench``.

Each result is the best of three runs, because on a busy machine only the best is reproducible.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlad_lightning.data.mario import list_samples, read_texts
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.models.text.encoder import train_tokenizer
from vlad_lightning.models.text.parser import PromptParser

_POSTERS = 4000  # so many that the start of the processes does not matter


def main() -> None:
    """Measure and print."""
    table = Table(
        "what", "result", title=f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    )
    help_seconds = best(lambda _: run_help())
    table.add_row("vlad-cli --help", f"{help_seconds:.2f} s")
    for workers in (1, 2):
        seconds = best(partial(write_posters, samples=_POSTERS, size=64, workers=workers))
        table.add_row(f"posters of 64 px written, {workers} workers", f"{_POSTERS / seconds:.0f} a second")
    table.add_row("64 prompts parsed and tokenized, by a data loader's process", f"{1000 * parsing_seconds():.1f} ms")
    Console().print(table)


def parsing_seconds() -> float:
    """Measure the seconds in which the mini stages' parser parses the captions of 64 posters."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "posters"
        write_posters(root, 64, size=64, workers=1)
        captions = [read_texts(sample, 0.3).prompt for sample in list_samples(root)]
    parser = PromptParser(6, 12, max_letters=24, context=60, pad_to_context=True, hides_padding=True)
    parser.tokenizer = train_tokenizer(captions)
    return best(lambda _: parser(captions))


def run_help() -> None:
    """Start the command line in a new process."""
    subprocess.run([sys.executable, "-m", "vlad_lightning", "--help"], check=True, stdout=subprocess.DEVNULL)


def best(action: Callable[[Path], object], repeats: int = 3) -> float:
    """Return the seconds of the fastest of ``repeats`` calls, each with a new folder's path."""
    with tempfile.TemporaryDirectory() as folder:
        return min(timed(action, Path(folder) / str(i)) for i in range(repeats))


def timed(action: Callable[[Path], object], out: Path) -> float:
    """Measure the seconds of one call."""
    started = time.perf_counter()
    action(out)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
