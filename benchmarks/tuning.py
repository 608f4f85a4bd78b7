"""Validation losses of the systems of Table I by learning rate: ``python benchmarks/tuning.py [OUT]``.

``vlad-cli run --config table1_tuning.yaml --out OUT`` trains them. A system's losses can be compared with each other,
not with those of another system, which predicts something else. The lowest of a row is bold.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from markdown_table import table

SYSTEMS = ("vlad", "sd_finetuned", "controlnet", "textdiffuser", "artist", "deepfloyd")
RATES = ("3e-4", "1e-3", "3e-3")


def main() -> None:
    """Print the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/table1"), help="(default: %(default)s)")
    out: Path = parser.parse_args().out
    rows = [(system, *_row([last_loss(out / "tuning" / f"{system}_{rate}") for rate in RATES])) for system in SYSTEMS]
    table(("system", *RATES), rows)


def last_loss(run: Path) -> float | None:
    """Return the last validation loss of a run; None if it has not been validated."""
    log = run / "csv" / "metrics.csv"
    if not log.is_file():
        return None
    with log.open(newline="") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row.get("val/loss")]
    return losses[-1] if losses else None


def _row(losses: list[float | None]) -> list[str]:
    lowest = min((loss for loss in losses if loss is not None), default=None)
    return [
        "not trained yet" if loss is None else f"**{loss:.3f}**" if loss == lowest else f"{loss:.3f}" for loss in losses
    ]


if __name__ == "__main__":
    main()
