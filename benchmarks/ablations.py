"""Compare the results of several runs: `python benchmarks/ablations.py runs/demo runs/wo_ccm ...`.

If the folders also hold `per_image.json`, each run is compared with the first one image by image: the difference of
the pooled shares, its 95 % interval, and the p-value of a test that swaps the two results of an image at random.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markdown_table import result_cell

from vlad_lightning.metrics.paired import Difference, paired_difference

ROWS = (
    "word_accuracy",
    "edit_similarity",
    "mario_accuracy",
    "mario_f",
    "background_colour",
    "object_presence",
    "object_colour",
    "object_position",
    "object_shape",
    "object_binding",
    "human_word_accuracy",
    "human_overlap",
    "clip_score_w1",
    "layout_word_accuracy",
    "layout_iou",
    "layout_position_accuracy",
    "layout_overlap_share",
    "layout_object_iou",
    "layout_object_position",
)
FAMILIES = ("alignment_probe_", "text_probe_", "distance")  # every result with one of these in its name


def main(folders: list[str]) -> None:
    """Print a Markdown table with a column per run, and one of the differences from the first run."""
    systems: dict[str, dict[str, dict[str, float | None]]] = {}
    images: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for folder in folders:
        systems |= json.loads(Path(folder, "results.json").read_text())
        rows = Path(folder, "per_image.json")
        images |= json.loads(rows.read_text()) if rows.exists() else {}
    table(systems, lambda results, name: result_cell(results.get(name)))
    reference, *others = systems
    paired = {system: images[system] for system in others if system in images and reference in images}
    if paired:
        print(f"\nMinus {reference}, on the same images:\n")
        table(paired, lambda results, name: _compared(images[reference], results, name))


def table(systems: Mapping[str, Mapping[str, Any]], cell: Any) -> None:
    """Print a Markdown table with a row for each result that a system has.

    Args:
        systems: by name, the values of each system by the name of a result.
        cell: a function of a system's results and a name that returns the text of the cell.
    """
    print(f"| | {' | '.join(systems)} |")
    print("|---" * (1 + len(systems)) + "|")
    for row in names(name for results in systems.values() for name in results):
        print(f"| {row} | {' | '.join(cell(results, row) for results in systems.values())} |")


def names(known: Iterable[str]) -> list[str]:
    """Choose the results to show among the known ones: :data:`ROWS`, then :data:`FAMILIES`."""
    there = set(known)
    families = (sorted(name for name in there if family in name) for family in FAMILIES)
    return [*(row for row in ROWS if row in there), *(name for family in families for name in family)]


def _compared(
    reference: Mapping[str, Mapping[str, tuple[float, float]]],
    results: Mapping[str, Mapping[str, tuple[float, float]]],
    name: str,
) -> str:
    rng = np.random.default_rng(0)
    found: Difference | None = paired_difference(reference.get(name, {}), results.get(name, {}), rng)
    if found is None:
        return "-"
    interval = "" if found.low is None else f" ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.value:+.3f}{interval}, p = {found.p:.4f}, n = {found.n}"


if __name__ == "__main__":
    main(sys.argv[1:])
