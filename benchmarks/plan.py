"""The plan of docs/planning.md: step times, rates, strategies and learning rates on 8 to 512 GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from markdown_table import span, table
from matplotlib.figure import Figure
from step_time import STRATEGIES, Cluster, Strategy, Workload
from torch import nn
from workloads import Counted

from vlad_lightning.modules.optimization import LRScaling, Optimization

GPUS = (8, 16, 32, 64, 128, 256, 512)
GBPS = (100, 200, 400, 800, 1600, 3200)
MARIO = 10_000_000  # training samples of MARIO-10M
STEPS = 200_000  # of configs/stage2_vfe.yaml
DAY = 86_400_000  # ms
_SCALINGS: tuple[LRScaling, ...] = ("linear", "sqrt")


def plan(every: Sequence[Counted]) -> None:
    """Plan step times, rates and strategies on 8 to 512 GPUs."""
    print("\n## What has to be computed and sent\n")
    print(
        "The last two columns: Gb/s per node at which an all-reduce over 512 GPUs takes as long as the backward pass.\n"
    )
    table(
        (
            *(
                "configuration",
                "trained",
                "gradients",
                "TFLOP per image",
                "k, ms",
                "images per GPU",
                "backward pass, ms",
            ),
            *("Gb/s that hide float32", "Gb/s that hide bf16"),
        ),
        [
            (
                w.name,
                f"{w.gradients / 4e6:,.1f} M",
                f"{w.gradients / 1e6:,.0f} MB",
                f"{w.tflop:.2f}",
                f"{w.image_ms:.2f}",
                str(w.images),
                f"{w.window_ms(w.images):.0f}",
                f"{w.hiding_gbps(w.images, 512):,.0f}",
                f"{w.hiding_gbps(w.images, 512, 'ddp bf16'):,.0f}",
            )
            for w in every
        ],
    )
    _communication(every)
    by_name = {w.name: w for w in every}
    _growth(by_name["SD 1.5, 512 px"], GPUS)
    for name in ("SD 1.5, 512 px, LoRA", "SDXL, 1024 px"):
        _growth(by_name[name], (8, 64, 512))
    _strategies([by_name["SD 1.5, 512 px"], by_name["SDXL, 1024 px"]])
    _batches()


def _communication(every: Iterable[Counted]) -> None:
    print("\n## An all-reduce of the gradients, 64 GPUs, ms\n")
    gradients: tuple[tuple[str, Strategy], ...] = (("float32", "ddp"), ("bf16", "ddp bf16"))
    cells = [
        (w.name, kind, *(f"{w.communication_ms(Cluster(8, gbps), strategy):.1f}" for gbps in GBPS))
        for w in every
        for kind, strategy in gradients
    ]
    table(("configuration", "gradients", *(f"{gbps:,} Gb/s" for gbps in GBPS)), cells)


def bounds(workload: Workload, images: float, cluster: Cluster, strategy: Strategy) -> tuple[float, float]:
    """Return the ms of a step with all communication hidden that fits beside the backward pass, and with none."""
    return workload.step_ms(images, cluster, strategy, 1.0), workload.step_ms(images, cluster, strategy, 0.0)


def _growth(workload: Counted, sizes: Sequence[int]) -> None:
    images = workload.images
    print(f"\n## {workload.name}, DDP, {images} images per GPU\n")
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
    head = (
        "Gb/s per node",
        "GPUs",
        "batch",
        "step, ms",
        "images/s",
        "efficiency",
        f"{STEPS:,} steps",
        "MARIO-10M once",
    )
    table(head, rows)


def _strategies(loads: Sequence[Counted]) -> None:
    print("\n## Which strategy\n")
    rows = []
    for workload in loads:
        for gpus in (8, 64, 512):
            for gbps in (100, 400, 3200) if gpus > 8 else (400,):
                cluster = Cluster(gpus // 8, gbps)
                cells = [span(bounds(workload, workload.images, cluster, s), ".0f") for s in STRATEGIES]
                rows.append((workload.name, str(workload.images), str(gpus), f"{gbps:,}" if gpus > 8 else "-", *cells))
    table(("configuration", "images per GPU", "GPUs", "Gb/s per node", *(f"{s}, ms" for s in STRATEGIES)), rows)
    print("\nWeights, gradients, AdamW's moments and EMA per GPU, GB; activations come on top:\n")
    table(
        ("configuration", "ddp", "hybrid, shards of 8", "fsdp, 64 GPUs", "fsdp, 512 GPUs"),
        [(w.name, *(f"{w.state(shards) / 1e9:.1f}" for shards in (1, 8, 64, 512))) for w in loads],
    )


def _batches() -> None:
    print("\n## Learning rate, 16 images per GPU\n")
    rows = []
    for gpus in GPUS:
        batch, rates = 16 * gpus, []
        for scaling in _SCALINGS:
            settings = Optimization(lr=5e-5, lr_batch=128, lr_scaling=scaling, warmup_samples=128_000)
            made = settings.configure([nn.Parameter(torch.zeros(1))], STEPS, batch)["optimizer"]
            rates.append(f"{made.param_groups[0]['initial_lr']:.2e}")
        rows.append((str(gpus), f"{batch:,}", *rates, f"{-(-128_000 // batch):,}", f"{MARIO / batch:,.0f}"))
    table(("GPUs", "global batch", "linear", "sqrt", "steps of warm-up", "steps of an epoch"), rows)


def draw(every: Sequence[Counted], path: Path) -> None:
    """Plot the efficiency against one node over the number of GPUs, a band from no to full overlap per network."""
    by_name = {w.name: w for w in every}
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle("Modelled, not measured: DDP, 16 images per GPU, a node = 8 H100")
    axes = figure.subplots(1, 2)
    for axis, name, low in zip(axes, ("SD 1.5, 512 px", "SD 1.5, 512 px, LoRA"), (0, 80), strict=True):
        for gbps, style in zip((100, 400, 1600, 3200), ("-", "-", "-", (0, (2, 2))), strict=True):
            shares = _efficiency(by_name[name], gbps)
            (line,) = axis.plot(GPUS, shares[:, 0], linestyle=style, label=f"{gbps:,} Gb/s per node")
            axis.fill_between(GPUS, shares[:, 1], shares[:, 0], alpha=0.25, color=line.get_color(), linewidth=0)
        kind = "LoRA" if name.endswith("LoRA") else "all weights trained"
        axis.set(title=f"SD 1.5, 512 px, {kind}", xlabel="GPUs", xscale="log", ylim=(low, 100 + (100 - low) / 20))
        axis.set_xticks(GPUS, [str(g) for g in GPUS])
        axis.set_yticks(np.linspace(low, 100, 6 if low == 0 else 5))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.set_ylabel("images/s per GPU, % of one node's")
        axis.legend(
            title="line: full overlap ... lower edge of its band: no overlap",
            loc="lower center",
            ncols=2,
            fontsize="small",
            title_fontsize="small",
        )
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _efficiency(workload: Counted, gbps: float) -> np.ndarray:
    """Return (GPUs, 2): images per second and GPU in percent of one node's, with full overlap and with none."""
    one = bounds(workload, 16, Cluster(1, gbps), "ddp")
    return 100 * np.array(one) / np.array([bounds(workload, 16, Cluster(gpus // 8, gbps), "ddp") for gpus in GPUS])
