"""The results table of a test: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.files import write_file
from vlad_lightning.types import Figure


class ResultsWriter(Callback):
    """Writes ``results.json`` and ``results.md`` from the module's ``figures`` after a test.

    Args:
        out: the folder.
        system: the row's name, such as ``vlad``.
    """

    def __init__(self, out: str, system: str = "vlad") -> None:
        self.out = out
        self.system = system

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files, from the first process."""
        figures = cast(dict[str, Figure], pl_module.figures)
        if not figures or not trainer.is_global_zero:
            return
        text = json.dumps({self.system: {name: asdict(f) for name, f in figures.items()}}, indent=1)
        table = results_table(self.system, figures)
        write_file(Path(self.out, "results.json"), lambda path: path.write_text(text + "\n", encoding="utf-8"))
        write_file(Path(self.out, "results.md"), lambda path: path.write_text(table, encoding="utf-8"))


def results_table(system: str, figures: dict[str, Figure]) -> str:
    """A Markdown table: a figure a row, with its 95 % interval where one is known, and where it comes from."""
    lines = [f"| {system} | value | 95 % interval | n | from |", "|---|---|---|---|---|"]
    for name, f in figures.items():
        interval = "" if f.low is None or f.high is None else f"{f.low:.3f} to {f.high:.3f}"
        source = ", ".join(f"{k}: {v}" for k, v in f.details.items())
        lines.append(f"| {name} | {f.value:.4f} | {interval} | {f.n} | {source} |")
    return "\n".join(lines) + "\n"
