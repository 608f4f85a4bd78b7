"""Model the time of a training step: the cost of the images, and the communication that is not hidden behind them.

    step = c + k * images per GPU + communication that is not hidden

``c`` and ``k`` are fitted to measurements (:func:`fit_steps`); the communication is :mod:`traffic` over a
:class:`Cluster`. Times are in milliseconds, sizes in bytes, and 1 Gb/s is 125,000 bytes per millisecond.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import traffic
from scipy import stats

_GBPS = 1e9 / 8 / 1e3  # bytes per millisecond in a Gb/s
Strategy = Literal["ddp", "ddp bf16", "hybrid", "fsdp"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "ddp bf16", "hybrid", "fsdp")


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        gpus: number of GPUs or processes.
        images: images per GPU in a step.
        ms: time of the step.
    """

    gpus: int
    images: float
    ms: float


@dataclass(frozen=True)
class Fit:
    """A line through measurements by least squares of the relative errors.

    Attributes:
        names: names of the coefficients.
        values: the coefficients.
        errors: their standard errors; NaN if there are no more points than coefficients.
        predicted: the line at the points.
        residuals: relative residuals, (predicted - measured) / measured.
        freedom: number of points minus number of coefficients.
    """

    names: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    predicted: np.ndarray
    residuals: np.ndarray
    freedom: int

    def half_width(self, level: float = 0.95) -> np.ndarray:
        """Return half of each coefficient's confidence interval, by Student's t."""
        if self.freedom < 1:
            return np.full_like(self.values, np.nan)
        return stats.t.ppf((1 + level) / 2, self.freedom) * self.errors


def fit_relative(names: Sequence[str], design: np.ndarray, measured: np.ndarray) -> Fit:
    """Minimize the squares of (design @ values - measured) / measured: step times of 50 and of 500 ms count alike.

    Args:
        names: names of the P coefficients.
        design: (N, P) float.
        measured: (N,) float, above 0.

    Raises:
        ValueError: if a measurement is not positive, or the points do not determine the coefficients.
    """
    if np.any(measured <= 0):
        raise ValueError(f"a measurement is {measured.min()}; all must be above 0")
    rows = design / measured[:, None]
    if np.linalg.matrix_rank(rows) < design.shape[1]:
        raise ValueError(f"{len(measured)} points do not tell {', '.join(names)} apart; vary images and GPUs")
    values, *_ = np.linalg.lstsq(rows, np.ones(len(measured)), rcond=None)
    residuals = rows @ values - 1
    freedom = len(measured) - design.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.divide(residuals @ residuals, freedom) if freedom else np.nan
    errors = np.sqrt(variance * np.diag(np.linalg.inv(rows.T @ rows)))
    return Fit(tuple(names), values, errors, design @ values, residuals, freedom)


def fit_steps(points: Sequence[Point], communication: bool = False) -> Fit:
    """Fit c and k of step = c + k * images; with ``communication`` also r of r * 2 (W - 1) / W.

    r is the time in which a rank sends its gradients once: bytes / r is the bandwidth that the steps saw, if no
    communication was hidden. It needs points with different numbers of GPUs.
    """
    columns = [[1.0, p.images] + ([traffic.all_reduce(1, p.gpus)] if communication else []) for p in points]
    names = ("c, ms", "k, ms per image", "r, ms")[: len(columns[0])] if points else ()
    return fit_relative(names, np.array(columns, dtype=float), np.array([p.ms for p in points], dtype=float))


def read_points(path: Path) -> list[Point]:
    """Read measurements from a CSV file with the columns ``gpus,images,ms``; other columns and # lines are ignored.

    Raises:
        ValueError: if a line cannot be read, with its number.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    points = []
    for row in csv.DictReader(lines):
        try:
            point = Point(int(row["gpus"]), float(row["images"]), float(row["ms"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {row} has no numbers gpus, images, ms") from error
        if min(point.gpus, point.images, point.ms) <= 0:
            raise ValueError(f"{path}: {row}: gpus, images and ms must be above 0")
        points.append(point)
    if not points:
        raise ValueError(f"{path} holds no points; its first line is gpus,images,ms")
    return points


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs.

    Attributes:
        nodes: N.
        node_gbps: Gb/s that a node sends, all its network cards together.
        gpus_per_node: g.
        link_gbps: Gb/s that a GPU sends to the others of its node; 3,600 is NVLink 4.
        hop_us: latency from node to node.
        link_hop_us: latency from GPU to GPU of a node.
    """

    nodes: int
    node_gbps: float
    gpus_per_node: int = 8
    link_gbps: float = 3600.0
    hop_us: float = 5.0
    link_hop_us: float = 1.0

    def __post_init__(self) -> None:
        for name in ("nodes", "node_gbps", "gpus_per_node", "link_gbps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    @property
    def gpus(self) -> int:
        """The number of GPUs, W."""
        return self.nodes * self.gpus_per_node

    @property
    def rate(self) -> float:
        """Bytes per millisecond of a collective over all GPUs: the slower of a GPU's links and a node's cards.

        A node has as many rings as GPUs; together they send between nodes as much as one rank sends.
        """
        return min(self.link_gbps, self.node_gbps if self.nodes > 1 else math.inf) * _GBPS

    def all_reduce_ms(self, size: float, messages: int = 1) -> float:
        """Return the faster of a ring and of a double binary tree (Sanders et al. 2009) in ``messages`` equal parts."""
        inside = 2 * (self.gpus_per_node - 1) * self.link_hop_us / 1e3
        if self.nodes == 1:
            return messages * inside + traffic.all_reduce(size, self.gpus) / self.rate
        hops = 2 * self.hop_us / 1e3
        ring = messages * (inside + (self.nodes - 1) * hops) + traffic.all_reduce(size, self.gpus) / self.rate
        tree = messages * (inside + math.ceil(math.log2(self.nodes)) * hops) + 2 * size / self.rate
        return min(ring, tree)

    def half_ms(self, size: float, messages: int = 1) -> float:
        """Return the time of an all-gather or a reduce-scatter by a ring: half of a ring's all-reduce."""
        hops = (self.gpus_per_node - 1) * self.link_hop_us + (self.nodes - 1) * self.hop_us
        return messages * hops / 1e3 + traffic.all_gather(size, self.gpus) / self.rate

    @property
    def one_node(self) -> Cluster:
        """Return a cluster of one of its nodes."""
        return Cluster(1, self.node_gbps, self.gpus_per_node, self.link_gbps, self.hop_us, self.link_hop_us)


@dataclass(frozen=True)
class Workload:
    """The work of a GPU in a step, and the bytes it exchanges with the others.

    Attributes:
        name: name in the tables.
        fixed_ms: c.
        image_ms: k.
        gradients: bytes of the trained weights' gradients in float32.
        weights: bytes of the weights that sharding gathers, as they are sent; frozen weights stay whole.
        backward: share of k that is the backward pass: two thirds, by floating-point operations.
        bucket: bytes of a DDP bucket; under sharding, of a block.
    """

    name: str
    fixed_ms: float
    image_ms: float
    gradients: float
    weights: float
    backward: float = 2 / 3
    bucket: float = 25 * 2**20

    def compute_ms(self, images: float) -> float:
        """Return the time of a step of one GPU alone."""
        return self.fixed_ms + self.image_ms * images

    def communication_ms(self, cluster: Cluster, strategy: Strategy = "ddp") -> float:
        """Return the time of all communication of a step, one message after the other."""
        if cluster.gpus == 1:
            return 0.0
        if strategy in ("ddp", "ddp bf16"):
            size = self.gradients / (2 if strategy == "ddp bf16" else 1)
            return cluster.all_reduce_ms(size, self._messages(self.gradients))
        inside = cluster if strategy == "fsdp" else cluster.one_node
        gathers = 2 * inside.half_ms(self.weights, self._messages(self.weights))
        together = gathers + inside.half_ms(self.gradients, self._messages(self.gradients))
        if strategy == "fsdp" or cluster.nodes == 1:
            return together
        across = Cluster(cluster.nodes, cluster.node_gbps, 1, hop_us=cluster.hop_us)
        return together + across.all_reduce_ms(self.gradients, self._messages(self.gradients))

    def window_ms(self, images: float, strategy: Strategy = "ddp") -> float:
        """Return the time during which communication can run: the backward pass; under sharding, both passes."""
        return self.image_ms * images * (self.backward if strategy in ("ddp", "ddp bf16") else 1.0)

    def hiding_gbps(self, images: float, gpus: int, strategy: Literal["ddp", "ddp bf16"] = "ddp") -> float:
        """Return the Gb/s of a node at which the all-reduce takes as long as the backward pass, without latencies."""
        size = self.gradients / (2 if strategy == "ddp bf16" else 1)
        return traffic.all_reduce(size, gpus) / self.window_ms(images) / _GBPS

    def step_ms(self, images: float, cluster: Cluster, strategy: Strategy = "ddp", overlap: float = 1.0) -> float:
        """Return the time of a step: c + k images + the communication that is not hidden.

        Args:
            images: images per GPU.
            cluster: the machines.
            strategy: the strategy, which determines what is sent.
            overlap: share of the communication that may run beside the backward pass (under sharding, beside both
                passes): 0 is the upper bound of the step, 1 the lower one. Two parts are never hidden: the
                communication that exceeds that pass, and the last bucket, which is ready only when the pass is over.
        """
        if not 0 <= overlap <= 1:
            raise ValueError(f"overlap is {overlap}; it must lie in [0, 1]")
        all_of_it = self.communication_ms(cluster, strategy)
        window = self.window_ms(images, strategy)
        last = all_of_it / self._messages(self.gradients)
        return self.compute_ms(images) + max((1 - overlap) * all_of_it, all_of_it - window, last)

    def _messages(self, size: float) -> int:
        return max(1, math.ceil(size / self.bucket))
