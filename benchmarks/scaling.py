"""How training scales over GPUs, as the Markdown of docs/planning.md: ``python benchmarks/scaling.py``.

It counts what the processes of a step really tell each other and compares it with the arithmetic, fits
step = c + k * images + communication to steps measured here, checks that line against MLPerf's runs on 8 to 512 GPUs,
and plans with it. ``--points FILE.csv`` fits the measurements of another machine (columns gpus,images,ms) and prints that alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import traffic
from step_time import STRATEGIES, Cluster, Fit, Point, Strategy, Workload, fit_steps, read_points

MLPERF = Path(__file__).with_name("mlperf_stable_diffusion.csv")
KNOWN = (26.3, 6.42)  # ms and ms an image: the line that the project's facts give for MLPerf's runs
STAGES = ("stage0_align", "stage1_tlg", "stage2_vfe")
GPUS = (8, 16, 32, 64, 128, 256, 512)
GBPS = (100, 200, 400, 800, 1600, 3200)
MARIO = 10_000_000  # training samples of MARIO-10M
STEPS = 200_000  # of configs/stage2_vfe.yaml
DAY = 86_400_000  # ms


def main() -> None:
    """Measure, count, plan and print."""
    sections: dict[str, Callable[[], None]] = {"volume": volume, "cpu": cpu, "mlperf": mlperf, "plan": plan}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, help="fit this CSV file and print nothing else")
    parser.add_argument(
        "--communication", action="store_true", help="with --points: also fit the time of the gradients' all-reduce"
    )
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections), help="sections to print")
    parser.add_argument("--plot", type=Path, help="draw the plan into this file")
    options = parser.parse_args()
    if options.points is not None:
        points = read_points(options.points)
        show_fit(points, fit_steps(points, options.communication))
        return
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, a thread a process, no GPU; torch {torch.__version__}, "
        f"{date.today()}; load {os.getloadavg()[0]:.1f} at the start."
    )
    for name in options.only:
        sections[name]()
    if options.plot is not None:
        draw(options.plot)


# --------------------------------------------------------------------------------------------------------- volume


def volume() -> None:
    """Bytes of the collectives really issued against the arithmetic."""
    from short_fits import Task, run

    print("\n## Communication volume\n")
    rows, validated = [], []
    with TemporaryDirectory() as folder:
        data = posters(Path(folder, "train"), 200)
        for ranks in (2, 4):
            strategies = [s for s in STRATEGIES if s != "hybrid" or ranks == 4]
            tasks = [
                Task(stage, strategy, 4, 3, data, validate=2 * (strategy == "ddp"))
                for stage in STAGES
                for strategy in strategies
            ]
            for records in run(tasks, ranks):
                rows.append(_volume_row(records))
                if records[0].task.name == "stage0_align" and records[0].validation:
                    validated.append(_validation_row(records[0]))
    print("KB that a rank sends in a step:\n")
    table(("stage", "strategy", "ranks", "collectives", "counted", "arithmetic", "ratio", "on the sockets"), rows)
    print("\nA validation of stage 0 (two batches of 4 images a rank), InfoNCE's gathers and those of R@1:\n")
    table(("ranks", "collectives", "KB sent a rank, counted", "arithmetic", "ratio"), validated)


def _volume_row(records: Sequence[object]) -> tuple[str, ...]:
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


def predicted(record: object) -> float:
    """Bytes a rank sends in a step, by the arithmetic."""
    task, ranks = record.task, record.ranks
    gradients = 4.0 * record.trained
    rest = 0.0
    if record.width:
        learned = 2 if task.name == "stage0_align" else 1  # stage 2's vision tower is frozen
        rest = traffic.info_nce(task.batch, record.width, ranks, learned=learned)
    if task.strategy in ("ddp", "ddp bf16"):
        travels = gradients / (2 if task.strategy == "ddp bf16" else 1)
        return traffic.ddp(travels, ranks, record.buffers, bitmap=4 * record.tensors) + rest
    weights, gathers = 2.0 * record.sharded, record.gathered / record.sharded  # gathered in bf16
    gradients = 4.0 * record.scattered
    if task.strategy == "fsdp":
        return traffic.sharded(weights, gradients, ranks, gathers) + rest
    return traffic.hybrid(weights, gradients, ranks // 2, 2, gathers) + rest


def _validation_row(record: object) -> tuple[str, ...]:
    ranks, width = record.ranks, record.width
    counted = sum(call.sent for call in record.validation)
    gathered = traffic.info_nce(record.validated, width, ranks, learned=0)  # by InfoNCE, batch by batch
    expected = 2 * gathered  # and once more for R@1 over the whole set
    return (
        str(ranks),
        str(len(record.validation)),
        f"{counted / 1e3:,.1f}",
        f"{expected / 1e3:,.1f}",
        f"{counted / expected:.4f}",
    )


def posters(folder: Path, samples: int) -> str:
    """Synthetic posters in MARIO's format."""
    from vlad_lightning.data.synthetic import write_posters

    write_posters(folder, samples, size=64, workers=1, charseg=False)
    return str(folder)


# ------------------------------------------------------------------------------------------------------------ cpu


def cpu() -> None:
    """c, k and the communication of stage 2 at the mini scale, on this machine."""
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
    """The points against the line, and its coefficients with their intervals."""
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


# --------------------------------------------------------------------------------------------------------- mlperf


def mlperf() -> None:
    """The line against published runs."""
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
    table(("GPUs", "runs", "images a GPU", "median step, ms", known, "fitted line, ms"), rows)


# ----------------------------------------------------------------------------------------------------------- plan


def plan() -> None:
    """Step times, rates and strategies on 8 to 512 GPUs."""
    from workloads import counted

    every = counted(*KNOWN)
    print("\n## What has to be computed and sent\n")
    table(
        ("configuration", "trained", "TFLOP an image", "k, ms", "gradients", "in bf16", "bf16 all-reduce, ms"),
        [
            (
                w.name,
                f"{w.gradients / 4e6:,.1f} M",
                f"{w.tflop:.2f}",
                f"{w.image_ms:.2f}",
                f"{w.gradients / 1e6:,.0f} MB",
                f"{w.gradients / 2e6:,.0f} MB",
                f"{w.communication_ms(Cluster(8, 400), 'ddp bf16'):.1f}",
            )
            for w in every
        ],
    )
    _communication(every)
    by_name = {w.name: w for w in every}
    for name, images in (("SD 1.5, 512 px", 16), ("SD 1.5, 512 px, LoRA", 16)):
        _growth(by_name[name], images, GPUS if name == "SD 1.5, 512 px" else (8, 64, 512))
    _strategies([(by_name["SD 1.5, 512 px"], 16), (by_name["SDXL, 1024 px"], 4)])
    _batches()


def _communication(every: Iterable[Workload]) -> None:
    print("\n## An all-reduce of the gradients, 64 GPUs, ms\n")
    cells = [
        (w.name, kind, *(f"{w.communication_ms(Cluster(8, gbps), strategy):.1f}" for gbps in GBPS))
        for w in every
        for kind, strategy in (("float32", "ddp"), ("bf16", "ddp bf16"))
    ]
    table(("configuration", "gradients", *(f"{gbps:,} Gb/s" for gbps in GBPS)), cells)


def bounds(workload: Workload, images: float, cluster: Cluster, strategy: Strategy) -> tuple[float, float]:
    """A step in ms: with all of the communication beside the backward pass that fits there, and with none of it."""
    return tuple(workload.step_ms(images, cluster, strategy, overlap) for overlap in (1.0, 0.0))  # type: ignore[return-value]


def _growth(workload: Workload, images: int, sizes: Sequence[int]) -> None:
    print(f"\n## {workload.name}, DDP, {images} images a GPU\n")
    rows = []
    for gbps in (100, 400, 1600, 3200):
        one = bounds(workload, images, Cluster(1, gbps), "ddp")
        for gpus in sizes:
            steps = bounds(workload, images, Cluster(gpus // 8, gbps), "ddp")
            rate = [1000 * gpus * images / ms for ms in steps]
            rows.append(
                (
                    f"{gbps:,}",
                    str(gpus),
                    f"{gpus * images:,}",
                    span(steps, ".0f"),
                    span(rate, ",.0f"),
                    span([100 * a / b for a, b in zip(one, steps, strict=True)], ".0f") + " %",
                    span([STEPS * ms / DAY for ms in steps], ".1f") + " d",
                    span([MARIO / r / 3600 for r in rate], ".2f") + " h",
                )
            )
    head = ("Gb/s a node", "GPUs", "batch", "step, ms", "images/s", "efficiency", f"{STEPS:,} steps", "MARIO-10M once")
    table(head, rows)


def _strategies(loads: Sequence[tuple[Workload, int]]) -> None:
    print("\n## Which strategy\n")
    rows = []
    for workload, images in loads:
        for gpus in (8, 64, 512):
            for gbps in (100, 400, 3200) if gpus > 8 else (400,):
                cluster = Cluster(gpus // 8, gbps)
                cells = [span(bounds(workload, images, cluster, s), ".0f") for s in STRATEGIES]
                rows.append((workload.name, str(images), str(gpus), f"{gbps:,}" if gpus > 8 else "-", *cells))
    table(("configuration", "images a GPU", "GPUs", "Gb/s a node", *(f"{s}, ms" for s in STRATEGIES)), rows)
    print("\nWeights, gradients, AdamW's moments and EMA of a GPU, GB; activations come on top:\n")
    table(
        ("configuration", "ddp", "hybrid, shards of 8", "fsdp, 64 GPUs", "fsdp, 512 GPUs"),
        [(w.name, *(f"{w.state(shards) / 1e9:.1f}" for shards in (1, 8, 64, 512))) for w, _ in loads],
    )


def _batches() -> None:
    from torch import nn

    from vlad_lightning.modules.optimization import Optimization

    print("\n## Learning rate, 16 images a GPU\n")
    rows = []
    for gpus in GPUS:
        batch, rates = 16 * gpus, []
        for scaling in ("linear", "sqrt"):
            settings = Optimization(lr=5e-5, lr_batch=128, lr_scaling=scaling, warmup_samples=128_000)
            made = settings.configure([nn.Parameter(torch.zeros(1))], STEPS, batch)["optimizer"]
            rates.append(f"{made.param_groups[0]['initial_lr']:.2e}")
        rows.append((str(gpus), f"{batch:,}", *rates, f"{-(-128_000 // batch):,}", f"{MARIO / batch:,.0f}"))
    table(("GPUs", "global batch", "linear", "sqrt", "steps of warm-up", "steps of an epoch"), rows)


def draw(path: Path) -> None:
    """Efficiency against one node over the number of GPUs, a band from no overlap to full overlap for each network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from workloads import counted

    by_name = {w.name: w for w in counted(*KNOWN)}
    names = ("SD 1.5, 512 px", "SD 1.5, 512 px, LoRA")
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, names, strict=True):
        for gbps in (100, 400, 1600, 3200):
            one = bounds(by_name[name], 16, Cluster(1, gbps), "ddp")
            both = np.array([bounds(by_name[name], 16, Cluster(g // 8, gbps), "ddp") for g in GPUS])
            shares = 100 * np.array(one) / both
            axis.fill_between(GPUS, shares[:, 1], shares[:, 0], alpha=0.25)
            axis.plot(GPUS, shares[:, 0], marker="o", markersize=3, label=f"{gbps:,} Gb/s a node")
        axis.set(title=f"{name}, 16 images a GPU, DDP", xlabel="GPUs", xscale="log", ylim=(0, 105))
        axis.set_xticks(GPUS, [str(g) for g in GPUS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("images/s for each GPU, % of one node's")
    axes[1].legend(loc="lower left")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(f"wrote {path}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------- print


def span(values: Iterable[float], form: str) -> str:
    """``low to high``, or one figure where both read the same."""
    low, high = (format(v, form) for v in sorted(values))
    return low if low == high else f"{low} to {high}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Markdown."""
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
