"""Results table of a test: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.files import write_text
from vlad_lightning.types import MetricResult

_Rows = Mapping[str, Mapping[str, tuple[float, float]]]


class ResultsWriter(Callback):
    """Writer of ``results.json`` and ``results.md`` from the module's ``results`` after a test.

    In ``results.json`` each result has, in addition to its fields, a key ``data`` with the data that it was measured
    on, taken from the data module.

    If the module has ``rows``, ``per_image.json`` holds what each image adds to a result that is a share:
    ``{system: {result: {image: [part, whole]}}}``; images are named by
    :func:`~vlad_lightning.metrics.per_image.image_id`.

    Args:
        out: the folder.
        system: the row's name, such as ``vlad``.
    """

    def __init__(self, out: str, system: str = "vlad") -> None:
        self.out = out
        self.system = system

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files in the first process."""
        results = cast(dict[str, MetricResult], pl_module.results)
        if not results or not trainer.is_global_zero:
            return
        rows = {name: asdict(f) | _data(trainer, name) for name, f in results.items()}
        text = json.dumps({self.system: rows}, indent=1)
        table = results_table(self.system, results)
        write_text(Path(self.out, "results.json"), text + "\n")
        write_text(Path(self.out, "results.md"), table)
        self._write_rows(cast(_Rows, getattr(pl_module, "rows", {})))

    def _write_rows(self, rows: _Rows) -> None:
        """Write the per-image rows; without rows, delete those of an earlier test."""
        target = Path(self.out, "per_image.json")
        if not rows:
            target.unlink(missing_ok=True)
            return
        text = json.dumps({self.system: rows})
        write_text(target, text + "\n")


def _data(trainer: Trainer, result: str) -> dict[str, str]:
    """Return what a result was measured on: prompts without images, the test source, or the source's test split."""
    source, test_source, prompts = (
        getattr(trainer.datamodule, name, None)  # type: ignore[attr-defined]
        for name in ("source", "test_source", "test_prompts")
    )
    if prompts is not None and result.startswith("human_"):
        return {"data": str(prompts)}
    if test_source is not None:
        return {"data": test_source.name}
    return {} if source is None else {"data": f"{source.name}, test split"}


def results_table(system: str, results: dict[str, MetricResult]) -> str:
    """Return a Markdown table with one row per result: its value, 95 % interval if known, n and details."""
    lines = [f"| {system} | value | 95 % interval | n | from |", "|---|---|---|---|---|"]
    for name, f in results.items():
        interval = "" if f.low is None or f.high is None else f"{f.low:.3f} to {f.high:.3f}"
        source = ", ".join(f"{k}: {v}" for k, v in f.details.items())
        lines.append(f"| {name} | {f.value:.4f} | {interval} | {f.n} | {source} |")
    return "\n".join(lines) + "\n"
