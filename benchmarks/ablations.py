"""The results of several runs beside each other: `python benchmarks/ablations.py runs/demo runs/wo_ccm ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROWS = (
    "word_accuracy",
    "edit_similarity",
    "mario_accuracy",
    "mario_f",
    "background_colour",
    "clip_score_w1",
    "layout_word_accuracy",
    "layout_iou",
    "layout_position_accuracy",
)


def main(folders: list[str]) -> None:
    """Print a Markdown table, a column a run."""
    systems: dict[str, dict[str, dict[str, float | None]]] = {}
    for folder in folders:
        systems |= json.loads(Path(folder, "results.json").read_text())
    distances = sorted({name for figures in systems.values() for name in figures if "distance" in name})
    print(f"| | {' | '.join(systems)} |")
    print("|---" * (1 + len(systems)) + "|")
    for row in (*ROWS, *distances):
        print(f"| {row} | {' | '.join(_cell(figures.get(row)) for figures in systems.values())} |")


def _cell(figure: dict[str, float | None] | None) -> str:
    if figure is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


if __name__ == "__main__":
    main(sys.argv[1:])
