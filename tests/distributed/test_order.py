"""Test real processes that are killed within an epoch and resumed, also by another number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("order_process.py")
KILLED_AT, SAVED_AT = 5, 4  # an epoch has three steps: both lie inside the second
ALONE = [("alignment", 2), ("tlg", 0), ("vfe", 0), ("vfe", 2)]  # stage and workers
STAGES = list(tiny.STAGES)


def run(*jobs: list[dict[str, Any]]) -> None:
    """Run the jobs of each list after those of the one before, and check the exit statuses of their ranks."""
    paths = os.pathsep.join([str(SCRIPT.parents[1]), str(SCRIPT.parents[2])])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(jobs)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: list[list[list[int]]] = json.loads(done.stdout.splitlines()[-1])
    expected = [[[-9 if "kill_at" in job else 0] * job.get("ranks", 1) for job in some] for some in jobs]
    assert found == expected, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make all runs of this file: undisturbed ones, killed ones, and ones that resume these, on one process."""
    out = tmp_path_factory.mktemp("runs")
    common = {"root": str(posters), "batch": 8}
    jobs = [{**common, "stage": stage, "out": str(out / stage), "validate": True} for stage in STAGES]
    for stage, workers in ALONE:
        name = f"{stage}-{workers}"
        jobs.append({**common, "stage": stage, "out": str(out / name), "workers": workers, "kill_at": KILLED_AT})
    for stage in STAGES:
        killed = {**common, "stage": stage, "out": str(out / f"{stage}-ddp"), "kill_at": KILLED_AT}
        jobs.append({**killed, "batch": 4, "ranks": 2, "workers": 1, "validate": True})
    resumed = []
    for stage, workers in [*ALONE, *((stage, "ddp") for stage in STAGES)]:
        name = f"{stage}-{workers}"
        more = {"workers": workers if isinstance(workers, int) else 0, "ckpt_path": str(out / name / "last.ckpt")}
        # another seed: the resume overwrites its effects
        resumed.append({**common, "stage": stage, "out": str(out / f"{name}-resumed"), "seed": 1, **more})
    run(jobs, resumed)
    return out


def read(folder: Path) -> dict[int, list[str]]:
    """Read the samples of each step in the order of their rows, from every rank."""
    lines = [json.loads(line) for path in folder.glob("read-*.jsonl") for line in path.read_text().splitlines()]
    steps: dict[int, list[str]] = {}
    for line in sorted(lines, key=lambda line: (line["step"], line["part"], line["rank"])):
        steps.setdefault(line["step"], []).extend(line["keys"])
    return steps


def losses(folder: Path) -> dict[int, float]:
    """Return the mean over ranks of each step's loss."""
    steps: dict[int, list[float]] = {}
    for path in folder.glob("read-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            steps.setdefault(line["step"], []).append(line["loss"])
    return {step: sum(values) / len(values) for step, values in steps.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "workers"), ALONE)
def test_killed_and_resumed_run_ends_with_the_same_weights_bit_for_bit(runs: Path, stage: str, workers: int) -> None:
    saved = torch.load(runs / f"{stage}-{workers}" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == SAVED_AT
    assert set(saved["MarioDataModule"]) == {"samples", "step", "of", "content"}
    whole, resumed = (load_file(runs / name / "weights.safetensors") for name in (stage, f"{stage}-{workers}-resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{stage}-{workers}" for stage, workers in ALONE] + [f"{s}-ddp" for s in STAGES])
def test_samples_equal_those_of_the_undisturbed_run(runs: Path, name: str) -> None:
    whole, before, after = read(runs / name.split("-")[0]), read(runs / name), read(runs / f"{name}-resumed")
    assert list(whole) == list(range(8))
    assert {step: before[step] for step in range(SAVED_AT)} == {step: whole[step] for step in range(SAVED_AT)}
    assert after == {step: whole[step] for step in range(SAVED_AT, 8)}
    assert len(set(whole[0] + whole[1] + whole[2])) == 24  # an epoch without repetition


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_have_the_loss_and_the_gradients_of_one(runs: Path, stage: str) -> None:
    one, two = losses(runs / stage), losses(runs / f"{stage}-ddp")
    apart = [abs(two[step] / one[step] - 1) for step in range(SAVED_AT)]
    expected, found = (load_file(runs / name / "gradients.safetensors") for name in (stage, f"{stage}-ddp"))
    largest = max(value.abs().max().item() for value in expected.values())
    off = max((found[key] - value).abs().max().item() for key, value in expected.items()) / largest
    print(f"{stage}: losses apart by {max(apart):.1e}, gradients by {off:.1e} of the largest")
    assert max(apart) < 1e-5
    assert largest > 1e-3
    assert off < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_with_another_number_of_processes_ends_near_the_undisturbed_one(runs: Path, stage: str) -> None:
    whole, changed = (load_file(runs / name / "weights.safetensors") for name in (stage, f"{stage}-ddp-resumed"))
    off = max((changed[key] - value).abs().max().item() for key, value in whole.items())
    print(f"{stage}: weights apart by {off:.1e} after 8 steps, 4 of them on two processes")
    assert off < 8 * 3e-3 / 2  # AdamW at 3e-3 in the same direction each step would go twice as far


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_measure_the_same_as_one(runs: Path, stage: str) -> None:
    """Three batches on two processes: one process repeats a batch, which does not count."""
    one, two = (json.loads((runs / name / "metrics.json").read_text()) for name in (stage, f"{stage}-ddp"))
    assert one.keys() == two.keys()
    assert "val/loss" in one
    off = max(abs(two[name] - value) / (abs(value) or 1) for name, value in one.items())
    print(f"{stage}: metrics apart by {off:.1e}")
    assert off < 1e-5
