"""Tables I and II from the runs of `configs/table1_mini.yaml`: `python benchmarks/tables.py 1 --out runs/table1`.

Each system's folder holds the `results.json` and `per_image.json` of its test; one without them is named as missing.
Beside the figures stands the compute of `runs/table1/compute.json` (`python benchmarks/compute.py --out ...`), if it is
there. A folder of several seeds, by `benchmarks/seeds.py`, has the mean and the standard deviation over them in the
place of an interval over images. Every system is compared with VLAD on the same images: the difference of the pooled
shares, and the p-value of a test that swaps the two results of an image at random, corrected by Holm over all tests of
the table. The published table follows. Written are `table1.md` and, if the systems have `images/`, `table1.png`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from markdown_table import result_cell
from matplotlib.figure import Figure
from PIL import Image

from vlad_lightning.files import write_file, write_text
from vlad_lightning.metrics.bootstrap import f_of_ratios, ratio_of_sums
from vlad_lightning.metrics.paired import Difference, holm, paired_difference

TABLES = {
    1: {
        "SD": "sd",
        "Fine-tuned SD": "sd_finetuned",
        "Fine-tuned SD, wider": "sd_finetuned_wider",
        "ControlNet": "controlnet",
        "ControlNet, true layouts": "controlnet_oracle",
        "DeepFloyd": "deepfloyd",
        "TextDiffuser": "textdiffuser",
        "ARTIST": "artist",
        "ARTIST, narrower": "artist_narrower",
        "VLAD": "vlad",
    },
    2: {"w/o CCM": "wo_ccm", "w/o hierarchical guidance": "wo_hg", "VLAD": "vlad"},
}
"""For each table, the systems and their folders."""

COLUMNS = {
    "frechet_distance": "FID (stand-in)",
    "clip_score_w1": "CLIP score",
    "mario_accuracy": "OCR accuracy",
    "mario_precision": "OCR P",
    "mario_recall": "OCR R",
    "mario_f": "OCR F",
    "word_accuracy": "words",
    "object_binding": "objects",
    "human_word_accuracy": "people's prompts: words",
}
"""Results of a test, and their names in the table; the Frechet distance is whichever network's there is."""

COMPARED = ("mario_accuracy", "mario_f", "word_accuracy", "object_binding", "clip_score_w1")
REFERENCE = "VLAD"
ALPHA = 0.05
PUBLISHED = Path(__file__).with_name("published_tables.json")
_PICTURES = 8


@dataclass(frozen=True)
class Run:
    """What the test of a system wrote.

    Attributes:
        results: by name; empty if there is none.
        images: what each image adds to a result, by the result's name.
        pictures: files of the first images, by their keys.
        compute: the entry of ``compute.json``.
    """

    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)

    def result(self, name: str) -> Mapping[str, Any] | None:
        """Return the result whose name begins so; None if there is none."""
        return next((value for known, value in self.results.items() if known.startswith(name)), None)


def main(args: Sequence[str] | None = None) -> None:
    """Print a table and write its files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=int, choices=tuple(TABLES))
    parser.add_argument("--out", type=Path, default=Path("runs/table1"))
    options = parser.parse_args(args)
    if not options.out.is_dir():
        parser.error(f"--out is {str(options.out)!r}, which is no folder; it must be the runs' folder")
    runs = {name: read(options.out, folder) for name, folder in TABLES[options.table].items()}
    text = "\n".join([*figures(runs), "", *compared(runs), "", *published(options.table)]) + "\n"
    print(text)
    write_text(options.out / f"table{options.table}.md", text)
    shown = {name: run for name, run in runs.items() if run.pictures}
    if shown:
        write_file(options.out / f"table{options.table}.png", picture(shown).savefig)


def read(out: Path, folder: str) -> Run:
    """Read what there is of a system."""

    def only(name: str) -> Mapping[str, Any]:
        path = out / folder / name
        return next(iter(json.loads(path.read_text(encoding="utf-8")).values())) if path.exists() else {}

    counts = out / "compute.json"
    compute = json.loads(counts.read_text(encoding="utf-8")).get(folder, {}) if counts.exists() else {}
    pictures = {path.stem: path for path in sorted((out / folder / "images").glob("*.png"))}
    return Run(only("results.json"), only("per_image.json"), pictures, compute)


def figures(runs: Mapping[str, Run]) -> list[str]:
    """Return the lines of the table of results and compute, and of the list of what is missing."""
    head = (
        "system",
        "seeds",
        *COLUMNS.values(),
        "training, TFLOP",
        "of VLAD's",
        "image, GFLOP",
        "parameters, M",
        "in all stages trained, M",
    )
    there = {name: run for name, run in runs.items() if run.results}
    rows = [
        (name, _seeds(run), *(result_cell(run.result(column)) for column in COLUMNS), *_costs(run))
        for name, run in there.items()
    ]
    missing = [name for name in runs if name not in there]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return lines + (["", f"Missing, not tested yet: {', '.join(missing)}."] if missing else [])


def _seeds(run: Run) -> str:
    return str(max(len(result.get("seeds", "1")) for result in run.results.values()))


def _costs(run: Run) -> tuple[str, ...]:
    if not run.compute:
        return ("-",) * 5
    image = run.compute["image"]
    return (
        f"{run.compute['training'] / 1e12:,.1f}",
        f"{run.compute['share']:.2f}",
        "-" if image is None else f"{image / 1e9:,.1f}",
        f"{run.compute['parameters'] / 1e6:.1f}",
        f"{run.compute['trained'] / 1e6:.1f}",
    )


def compared(runs: Mapping[str, Run]) -> list[str]:
    """Return the lines of the table of differences from VLAD, with p-values corrected over the whole table."""
    reference = runs[REFERENCE]
    found = {
        (name, column): difference
        for name, run in runs.items()
        for column in COMPARED
        if name != REFERENCE and (difference := _difference(reference, run, column)) is not None
    }
    if not found:
        return [f"No system can be compared with {REFERENCE} yet."]
    corrected = dict(zip(found, holm([difference.p for difference in found.values()]), strict=True))
    names = list(dict.fromkeys(name for name, _ in found))
    lines = [
        f"Minus {REFERENCE}, on the same images; p after Holm's correction over {len(found)} tests, * at most {ALPHA}:",
        "",
        f"| system | {' | '.join(COLUMNS[column] for column in COMPARED)} |",
        "|---" * (1 + len(COMPARED)) + "|",
    ]
    for name in names:
        cells = (_compared(found.get((name, column)), corrected.get((name, column), 1.0)) for column in COMPARED)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _difference(reference: Run, run: Run, column: str) -> Difference | None:
    """Return a system's result minus VLAD's; None where one of them has no rows of images."""
    parts = ("mario_precision", "mario_recall") if column == "mario_f" else (column,)
    first, second = (_joined([of.images.get(part, {}) for part in parts]) for of in (reference, run))
    statistic: Callable[..., Any] = f_of_ratios if column == "mario_f" else ratio_of_sums
    return paired_difference(first, second, np.random.default_rng(0), statistic=statistic)


def _joined(parts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, ...]]:
    """Join the rows of the images that are in all parts."""
    keys = set.intersection(*(set(part) for part in parts))
    return {key: tuple(number for part in parts for number in part[key]) for key in sorted(keys)}


def _compared(difference: Difference | None, p: float) -> str:
    if difference is None:
        return "-"
    interval = "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
    return f"{difference.value:+.3f}{interval}, p = {p:.4f}{' *' if p <= ALPHA else ''}"


def published(table: int) -> list[str]:
    """Return the lines of the published tables; the paper's scale and data, so not comparable in size."""
    lines = ["Published, at another scale and on other data, so only the order can be compared:"]
    tables = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    for name in ("vlad_table1", "textdiffuser_mts", "textdiffuser_azure") if table == 1 else ("vlad_table2",):
        rows = tables[name]["rows"]
        head = list(next(iter(rows.values())))
        lines += [
            "",
            f"{tables[name]['source']}:",
            "",
            f"| system | {' | '.join(head)} |",
            "|---" * (1 + len(head)) + "|",
        ]
        lines += [f"| {system} | {' | '.join(map(str, row.values()))} |" for system, row in rows.items()]
    return lines


def picture(runs: Mapping[str, Run]) -> Figure:
    """Plot the first images that all systems have: a column a prompt, a row a system."""
    keys = sorted(set.intersection(*(set(run.pictures) for run in runs.values())))[:_PICTURES]
    figure = Figure(figsize=(1.5 * len(keys) + 1.2, 1.5 * len(runs) + 0.4), layout="constrained", dpi=150)
    axes = figure.subplots(len(runs), len(keys), squeeze=False)
    for row, (name, run) in zip(axes, runs.items(), strict=True):
        for axis, key in zip(row, keys, strict=True):
            with Image.open(run.pictures[key]) as image:
                axis.imshow(np.asarray(image.convert("RGB")), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=7)
    for axis, key in zip(axes[-1], keys, strict=True):
        with Image.open(next(iter(runs.values())).pictures[key]) as image:
            axis.set_xlabel("\n".join(wrap(str(image.info.get("prompt", key)), 30)[:4]), fontsize=5, parse_math=False)
    return figure


if __name__ == "__main__":
    main()
