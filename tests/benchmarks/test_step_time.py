"""Compare the fit with scipy's, the cost of communication with closed forms, and the line with MLPerf's runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import traffic
from scipy.optimize import curve_fit
from step_time import STRATEGIES, Cluster, Point, Workload, fit_steps, read_points

MLPERF = Path(__file__).parents[2] / "benchmarks" / "mlperf_stable_diffusion.csv"
ERRORS = {1: 1.02, 2: 0.97, 4: 1.01, 8: 0.99, 16: 1.03, 32: 1.0}
NOISY = [Point(1, b, (30 + 7 * b) * error) for b, error in ERRORS.items()]
FULL = Workload("full", fixed_ms=26.3, image_ms=6.42, gradients=3.6e9, weights=1.8e9)


def test_a_line_without_noise_is_found_exactly() -> None:
    fit = fit_steps([Point(1, b, 26.3 + 6.42 * b) for b in (2, 4, 32)])
    np.testing.assert_allclose(fit.values, [26.3, 6.42], rtol=1e-12)
    np.testing.assert_allclose(fit.residuals, 0, atol=1e-12)


def test_values_and_intervals_equal_scipys_with_relative_errors() -> None:
    fit = fit_steps(NOISY)
    images, ms = np.array([p.images for p in NOISY]), np.array([p.ms for p in NOISY])
    values, covariance = curve_fit(lambda b, c, k: c + k * b, images, ms, sigma=ms, absolute_sigma=False)
    np.testing.assert_allclose(fit.values, values, rtol=1e-5)
    np.testing.assert_allclose(fit.errors, np.sqrt(np.diag(covariance)), rtol=1e-4)
    t = 2.7764451  # 97.5 % of Student's t with 4 degrees of freedom, from a table
    np.testing.assert_allclose(fit.half_width(), t * fit.errors, rtol=1e-6)


def test_communication_is_distinguished_from_the_constant() -> None:
    points = [Point(w, b, 12 + 3 * b + 8 * 2 * (w - 1) / w) for w in (1, 2, 4) for b in (2, 8)]
    fit = fit_steps(points, communication=True)
    np.testing.assert_allclose(fit.values, [12, 3, 8], rtol=1e-10)


def test_points_that_do_not_determine_the_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not tell c, ms, k, ms per image apart"):
        fit_steps([Point(1, 4, 50.0), Point(2, 4, 51.0)])
    with pytest.raises(ValueError, match="r, ms apart"):
        fit_steps([Point(2, b, 50.0 + b) for b in (1, 2, 3)], communication=True)
    with pytest.raises(ValueError, match="must be above 0"):
        fit_steps([Point(1, 1, 0.0), Point(1, 2, 1.0)])


def test_two_points_give_a_line_without_an_interval() -> None:
    fit = fit_steps([Point(1, 1, 10.0), Point(1, 2, 12.0)])
    np.testing.assert_allclose(fit.values, [8, 2])
    assert np.isnan(fit.half_width()).all()


def test_mlperf_lies_on_both_lines_within_a_percent() -> None:
    points = read_points(MLPERF)
    fit = fit_steps(points)
    assert {p.gpus for p in points} == {8, 64, 512}
    for gpus in (8, 64, 512):
        runs = [p for p in points if p.gpus == gpus]
        measured = statistics.median(p.ms for p in runs)
        for c, k in ((26.3, 6.42), tuple(fit.values)):
            assert c + k * runs[0].images == pytest.approx(measured, rel=0.01)


def test_mlperf_s_times_are_those_of_its_throughputs() -> None:
    rows = [line.split(",") for line in MLPERF.read_text().splitlines() if line[0].isdigit()]
    for gpus, images, ms, _, _, throughput in rows:
        assert float(ms) == pytest.approx(1000 * int(gpus) * int(images) / float(throughput), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "named"),
    [("gpus,images,ms\n8,4\n", "no numbers"), ("gpus,images\n8,4\n", "no numbers"), ("gpus,images,ms\n", "no points")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=named) as error:
        read_points(path)
    assert str(path) in str(error.value)


def test_points_must_be_positive(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("# measured somewhere\ngpus,images,ms\n8,0,10\n")
    with pytest.raises(ValueError, match="above 0"):
        read_points(path)


def test_one_node_uses_its_links_only() -> None:
    slow, fast = (Cluster(1, gbps, link_hop_us=0) for gbps in (10, 3200))
    bytes_a_ms = 3600e9 / 8 / 1e3
    assert slow.all_reduce_ms(3.6e9) == fast.all_reduce_ms(3.6e9) == pytest.approx(2 * 7 / 8 * 3.6e9 / bytes_a_ms)


@pytest.mark.parametrize("nodes", [2, 8, 64])
def test_nodes_share_their_cards(nodes: int) -> None:
    cluster = Cluster(nodes, 400, hop_us=0, link_hop_us=0)
    gpus = 8 * nodes
    ms = 2 * (gpus - 1) / gpus * 3.6e9 / (400e9 / 8 / 1e3)
    assert cluster.all_reduce_ms(3.6e9) == pytest.approx(ms)  # 144 ms for 3.6 GB at 50 GB/s, minus the local part
    assert cluster.half_ms(3.6e9) == pytest.approx(ms / 2)


def test_latency_is_the_better_algorithms() -> None:
    cluster = Cluster(64, 400, gpus_per_node=1, hop_us=5, link_hop_us=0)
    tiny = 1e-9
    assert cluster.all_reduce_ms(tiny) == pytest.approx(2 * 6 * 5e-3)  # a tree of 64: six levels, up and down
    assert replace(cluster, nodes=2).all_reduce_ms(tiny) == pytest.approx(2 * 1 * 5e-3)
    large = 1e12  # only bandwidth matters: the ring, which does not send to itself
    ring = traffic.all_reduce(large, 64) / (400e9 / 8 / 1e3) + 2 * 63 * 5e-3
    assert cluster.all_reduce_ms(large) == pytest.approx(ring)
    assert cluster.half_ms(tiny, messages=3) == pytest.approx(3 * 63 * 5e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("gbps", [100, 3200])
def test_overlap_lies_between_its_bounds(strategy: str, gbps: int) -> None:
    cluster = Cluster(8, gbps)
    times = [FULL.step_ms(16, cluster, strategy, overlap) for overlap in (0.0, 0.25, 0.5, 1.0)]  # type: ignore[arg-type]
    compute, communication = FULL.compute_ms(16), FULL.communication_ms(cluster, strategy)  # type: ignore[arg-type]
    assert times[0] == pytest.approx(compute + communication)
    assert times == sorted(times, reverse=True)
    assert times[-1] > compute


def test_communication_beyond_the_backward_pass_adds_to_the_step() -> None:
    cluster = Cluster(8, 100, hop_us=0, link_hop_us=0)
    window = 2 / 3 * 6.42 * 16
    communication = FULL.communication_ms(cluster)
    assert communication > window
    assert FULL.step_ms(16, cluster) == pytest.approx(FULL.compute_ms(16) + communication - window)
    small = replace(FULL, gradients=50 * 2**20)  # two buckets: the second one starts when the pass is over
    assert small.step_ms(16, cluster) == pytest.approx(small.compute_ms(16) + small.communication_ms(cluster) / 2)


@pytest.mark.parametrize("strategy", ["ddp", "ddp bf16"])
def test_the_rate_that_hides_leaves_the_last_bucket_only(strategy: str) -> None:
    gbps = FULL.hiding_gbps(16, 64, strategy)  # type: ignore[arg-type]
    cluster = Cluster(8, gbps, hop_us=0, link_hop_us=0)
    communication = FULL.communication_ms(cluster, strategy)  # type: ignore[arg-type]
    assert communication == pytest.approx(2 / 3 * 16 * 6.42)
    left = FULL.step_ms(16, cluster, strategy) - FULL.compute_ms(16)  # type: ignore[arg-type]
    assert left == pytest.approx(communication / math.ceil(3.6e9 / (25 * 2**20)))


def test_strategies_send_the_bytes_of_traffic() -> None:
    cluster = Cluster(8, 400, hop_us=0, link_hop_us=0)
    rate = 400e9 / 8 / 1e3
    assert FULL.communication_ms(cluster, "ddp") == pytest.approx(traffic.ddp(3.6e9, 64) / rate)
    assert FULL.communication_ms(cluster, "ddp bf16") == pytest.approx(traffic.ddp(1.8e9, 64) / rate)
    assert FULL.communication_ms(cluster, "fsdp") == pytest.approx(traffic.sharded(1.8e9, 3.6e9, 64) / rate)
    inside = traffic.sharded(1.8e9, 3.6e9, 8) / (3600e9 / 8 / 1e3)
    across = traffic.all_reduce(3.6e9, 8) / rate  # eight shards of an eighth, over the cards that they share
    assert FULL.communication_ms(cluster, "hybrid") == pytest.approx(inside + across)


def test_one_gpu_and_one_node() -> None:
    alone = Cluster(1, 400, gpus_per_node=1)
    assert [FULL.step_ms(4, alone, s) for s in STRATEGIES] == [pytest.approx(26.3 + 4 * 6.42)] * 4
    node = Cluster(1, 400)
    assert FULL.communication_ms(node, "hybrid") == FULL.communication_ms(node, "fsdp")


def test_more_nodes_and_slower_ones_never_help() -> None:
    for strategy in STRATEGIES:
        by_nodes = [FULL.step_ms(4, Cluster(n, 400), strategy, 0.0) for n in (1, 2, 8, 64)]
        assert by_nodes == sorted(by_nodes)
        by_rate = [FULL.step_ms(4, Cluster(8, g), strategy, 0.0) for g in (3200, 400, 100)]
        assert by_rate == sorted(by_rate)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"overlap is 1\.5"):
        FULL.step_ms(4, Cluster(1, 400), overlap=1.5)
    with pytest.raises(ValueError, match="nodes is 0"):
        Cluster(0, 400)
    assert math.isclose(Cluster(1, 0.001).rate, 3600e9 / 8 / 1e3)
