"""Measure how training scales over GPUs, as the Markdown of docs/planning.md: ``python benchmarks/scaling.py``.

It counts the bytes that the processes of a step really send and compares them with the arithmetic, fits
step = c + k * images + communication to steps measured here, checks that line against MLPerf's runs on 8 to 512 GPUs,
and plans with it. ``--points FILE.csv`` fits the measurements of another machine (columns gpus,images,ms) and prints
only that fit.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
import traffic
from markdown_table import table, table_rows
from step_time import STRATEGIES, Fit, Point, fit_steps, read_points

if TYPE_CHECKING:
    from short_fits import Record

MLPERF = Path(__file__).with_name("mlperf_stable_diffusion.csv")
KNOWN = (26.3, 6.42)  # c in ms and k in ms per image, near the fit to MLPerf's runs; the plan uses them
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "scaling.png"
STAGES = ("stage0_align", "stage1_tlg", "stage2_vfe")


def main() -> None:
    """Measure, count, plan and print."""
    sections: dict[str, Callable[[], None]] = {"volume": volume, "cpu": cpu, "mlperf": mlperf, "plan": planned}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, help="fit this CSV file and print nothing else")
    parser.add_argument(
        "--communication", action="store_true", help="with --points: also fit the time of the gradients' all-reduce"
    )
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections), help="sections to print")
    options = parser.parse_args()
    if options.points is not None:
        points = read_points(options.points)
        show_fit(points, fit_steps(points, options.communication))
        return
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, one thread per process, no GPU; torch {torch.__version__}, "
        f"{date.today()}; load {os.getloadavg()[0]:.1f} at the start."
    )
    for name in options.only:
        sections[name]()


def volume() -> None:
    """Compare the bytes of the issued collectives with the arithmetic."""
    from short_fits import Task, run

    print("\n## Communication volume\n")
    print("KB sent per rank and step:\n")
    sizes = ("counted", "arithmetic", "ratio", "on the sockets")
    table(("stage", "strategy", "ranks", "collectives", *sizes), [])
    validated = []
    with TemporaryDirectory() as folder:
        data = posters(Path(folder, "train"), 200)
        for ranks in (2, 4):
            strategies = [s for s in STRATEGIES if s != "hybrid" or ranks == 4]
            tasks = [Task(stage, s, 4, 3, data, validate=2 * (s == "ddp")) for stage in STAGES for s in strategies]
            for records in run(tasks, ranks):
                table_rows([_volume_row(records)])
                if records[0].task.name == "stage0_align" and records[0].validation:
                    validated.append(_validation_row(records[0]))
    print("\nA validation of stage 0 (two batches of 4 images per rank), whose embeddings R@1 gathers:\n")
    table(("ranks", "collectives", "KB sent per rank, counted", "arithmetic", "ratio"), validated)


def _volume_row(records: Sequence[Record]) -> tuple[str, ...]:
    first = records[0]
    steps = len(first.ms)
    counted = sum(call.sent for r in records for call in r.calls) / steps / len(records)
    expected = predicted(first)
    sockets = statistics.mean(r.received for r in records)
    return (
        first.task.name,
        first.task.strategy,
        str(first.ranks),
        f"{len(first.calls) / steps:.0f}",
        f"{counted / 1e3:,.1f}",
        f"{expected / 1e3:,.1f}",
        f"{counted / expected:.4f}",
        f"{sockets / 1e3:,.1f}",
    )


def predicted(record: Record) -> float:
    """Calculate the bytes that a rank sends in a step."""
    task, ranks = record.task, record.ranks
    gradients = 4.0 * record.trained
    rest = 0.0
    if record.width:
        learned = 2 if task.name == "stage0_align" else 1  # stage 2's vision tower is frozen
        rest = traffic.info_nce(task.batch, record.width, ranks, learned=learned)
    if task.strategy in ("ddp", "ddp bf16"):
        travels = gradients / (2 if task.strategy == "ddp bf16" else 1)
        return traffic.ddp(travels, ranks, record.buffers, bitmap=4 * record.tensors) + rest
    weights = 4.0 * record.sharded  # on a CPU; a GPU gathers in bf16
    gathers = record.gathered / record.sharded
    gradients = 4.0 * record.scattered
    if task.strategy == "fsdp":
        return traffic.sharded(weights, gradients, ranks, gathers) + rest
    return traffic.hybrid(weights, gradients, ranks // 2, 2, gathers) + rest


def _validation_row(record: Record) -> tuple[str, ...]:
    ranks = record.ranks
    counted = sum(call.sent for call in record.validation)
    expected = traffic.info_nce(record.validated, record.width, ranks, learned=0)  # both whole sets, for R@1
    expected += traffic.broadcast(record.buffers, ranks)  # DDP's, before the first batch
    return (
        str(ranks),
        str(len(record.validation)),
        f"{counted / 1e3:,.1f}",
        f"{expected / 1e3:,.1f}",
        f"{counted / expected:.4f}",
    )


def posters(folder: Path, samples: int) -> str:
    """Write synthetic posters in MARIO's format."""
    from vlad_lightning.data.synthetic.synthetic import write_posters

    write_posters(folder, samples, size=64, workers=1, charseg=False)
    return str(folder)


def cpu() -> None:
    """Measure c, k and the communication of stage 2 at the mini scale, on this machine."""
    from short_fits import Task, run

    print("\n## Step time on this machine\n")
    points = []
    with TemporaryDirectory() as folder:
        data = posters(Path(folder, "train"), 200)
        for ranks, strategy in ((1, ""), (2, "ddp")):
            tasks = [Task("stage2_vfe", strategy, batch, 11, data, count=False) for batch in (2, 4, 8, 16)]
            for records in run(tasks, ranks):
                slowest = [max(times) for times in zip(*(r.ms for r in records), strict=True)]
                points.append(Point(ranks, records[0].task.batch, statistics.median(slowest)))
    gradients = 4.0 * records[0].trained
    fit = fit_steps(points, communication=True)
    show_fit(points, fit)
    if fit.values[2] > 0:
        rate = gradients / fit.values[2] / 1e6
        print(f"\n{gradients / 1e6:.1f} MB of gradients in r: {rate:.2f} GB/s, if none of it was hidden.")


def show_fit(points: Sequence[Point], fit: Fit) -> None:
    """Print the points against the line, and its coefficients with their intervals."""
    table(
        ("GPUs or processes", "images for each", "step, ms", "line, ms", "line against step"),
        [
            (str(p.gpus), f"{p.images:g}", f"{p.ms:.1f}", f"{at:.1f}", f"{100 * error:+.2f} %")
            for p, at, error in zip(points, fit.predicted, fit.residuals, strict=True)
        ],
    )
    print()
    widths = fit.half_width()
    table(
        ("coefficient", "value", "95 % interval"),
        [
            (name, f"{value:.3f}", f"{value - half:.3f} to {value + half:.3f}" if np.isfinite(half) else "-")
            for name, value, half in zip(fit.names, fit.values, widths, strict=True)
        ],
    )


def mlperf() -> None:
    """Compare the line with published runs."""
    print("\n## The line against MLPerf\n")
    points = read_points(MLPERF)
    fit = fit_steps(points)
    show_fit(points, fit)
    print()
    rows = []
    for gpus in sorted({p.gpus for p in points}):
        runs = [p for p in points if p.gpus == gpus]
        measured, images = statistics.median(p.ms for p in runs), runs[0].images
        lines = (KNOWN[0] + KNOWN[1] * images, fit.values[0] + fit.values[1] * images)
        against = [f"{ms:.1f} ({100 * (ms / measured - 1):+.2f} %)" for ms in lines]
        rows.append((str(gpus), str(len(runs)), f"{images:g}", f"{measured:.1f}", *against))
    known = f"{KNOWN[0]} + {KNOWN[1]} images, ms"
    table(("GPUs", "runs", "images per GPU", "median step, ms", known, "fitted line, ms"), rows)


def planned() -> None:
    """Print the plan and write its plot."""
    from plan import draw, plan
    from workloads import counted

    every = counted(*KNOWN)
    plan(every)
    draw(every, PICTURE)
    print(f"\nPicture: {PICTURE.relative_to(PICTURE.parents[2])}")


if __name__ == "__main__":
    main()
