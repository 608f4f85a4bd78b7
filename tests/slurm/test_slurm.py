"""The shipped sbatch files on a real cluster: a chain of stages, preempted twice, then test and predict over tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from slurm_cluster import ROOT, SCRIPTS, Cluster, logs_of

from vlad_lightning.models.object_detector import ObjectDetector

pytestmark = pytest.mark.slurm
STEPS = 30
MINI = ROOT / "configs" / "mini"
STAGE2 = ("--config", MINI / "stage2_vfe.yaml")
ON_CPU = ("--trainer.accelerator=cpu", "--trainer.strategy=ddp_find_unused_parameters_true")
SMALL = (
    f"--trainer.max_steps={STEPS}",
    "--trainer.val_check_interval=1000",
    "--trainer.limit_val_batches=0",
    "--data.batch_size=4",
)
GENERATE = ("--model.sampler.steps=2", "--model.layout_sampler.steps=2")


@dataclass(frozen=True)
class Chain:
    out: Path
    jobs: dict[str, str]
    facts: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def data(posters: Path) -> tuple[str, ...]:
    return (f"--data.root={posters}", "--data.val_share=0.1", "--data.test_share=0.2")


@pytest.fixture(scope="module")
def chain(cluster: Cluster, data: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The three stages; the first is preempted by a warning, as before the end of its time, and by an administrator."""
    out = tmp_path_factory.mktemp("chain") / "out"
    started = time.time()
    said = cluster.run("bash", SCRIPTS / "chain.sh", out, MINI, *data, *ON_CPU, *SMALL).stdout
    jobs = dict(line.split() for line in said.splitlines())
    first = jobs["stage0"]
    log = out / "slurm" / f"stage0-{first}.log"
    for preempt in (("scancel", "--signal=USR1", first), ("scontrol", "requeue", first)):
        cluster.wait_for(out / "stage0" / "config.yaml", first, out, started)
        time.sleep(0.3)
        started = time.time()
        cluster.run(*preempt)
        cluster.wait_for(log, first, out, started)
        started = time.time()
    facts = {stage: cluster.wait(job, out) for stage, job in jobs.items()}
    return Chain(out, jobs, facts)


def weights(path: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == STEPS
    return {name: value for name, value in saved["state_dict"].items() if isinstance(value, torch.Tensor)}


def test_a_chain_that_was_preempted_twice_finishes(chain: Chain) -> None:
    states = {stage: (facts["JobState"], facts["ExitCode"]) for stage, facts in chain.facts.items()}
    assert states == dict.fromkeys(("stage0", "stage1", "stage2"), ("COMPLETED", "0:0")), logs_of(chain.out)
    assert chain.facts["stage0"]["Restarts"] == "2"
    told = (chain.out / "slurm" / f"stage0-{chain.jobs['stage0']}" / "0.log").read_text()
    assert told.count("(exit code 75)") == 2, told
    assert told.count("SLURM starts it again") == 1  # the second time it was already queued
    for stage in ("stage1", "stage2"):
        assert weights(chain.out / stage / "last.ckpt")


def test_it_ends_with_the_weights_of_an_undisturbed_run(
    cluster: Cluster, chain: Chain, data: tuple[str, ...], tmp_path: Path
) -> None:
    job = submit(cluster, "stage", tmp_path / "out", "--config", MINI / "stage0_align.yaml", *data, *ON_CPU, *SMALL)
    assert cluster.wait(job, tmp_path)["JobState"] == "COMPLETED", logs_of(tmp_path)
    whole, cut = (weights(out / "stage0" / "last.ckpt") for out in (tmp_path / "out", chain.out))
    assert whole.keys() == cut.keys()
    assert [name for name, value in whole.items() if not torch.equal(value, cut[name])] == []


def start(cluster: Cluster, *args: object) -> subprocess.Popen[str]:
    """Start one process without SLURM."""
    command = [sys.executable, "-m", "vlad_lightning", *map(str, args)]
    return subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def submit(cluster: Cluster, script: str, out: Path, *args: object) -> str:
    options = (f"--job-name={script}", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", f"--output={out}.log")
    return cluster.run("sbatch", "--parsable", *options, SCRIPTS / f"{script}.sbatch", out, *args).stdout.strip()


def test_test_and_predict_over_tasks_equal_one_process(
    cluster: Cluster, chain: Chain, data: tuple[str, ...], tmp_path: Path
) -> None:
    checkpoint = ("--ckpt_path", chain.out / "stage2" / "last.ckpt", "--trainer.accelerator=cpu", *GENERATE)
    weights = {f"detector.{key}": value for key, value in ObjectDetector(64, 32).state_dict().items()}
    for name in ("many", "one"):
        (tmp_path / name / "evaluation_encoder").mkdir(parents=True)
        shutil.copy(chain.out / "stage0" / "last.ckpt", tmp_path / name / "evaluation_encoder" / "last.ckpt")
        (tmp_path / name / "objects").mkdir()
        torch.save({"state_dict": weights}, tmp_path / name / "objects" / "last.ckpt")
    five = ("--data.batch_size=2", "--data.limit_test=5")  # three batches: the second task gets a spare one
    alike = "--model.text_probe=0"  # which asks so many samples of each task
    measured = (*STAGE2, "--config", MINI / "test.yaml", *data, *five, *checkpoint, alike)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"a poster that says 'WORD{i}'\n" for i in range(5)))
    generate = ROOT / "configs" / "generate.yaml"
    generated = (*STAGE2, "--config", generate, f"--data.file={prompts}", "--data.batch_size=2", *checkpoint)
    jobs = [submit(cluster, "test", tmp_path / "many", *measured)]
    jobs.append(submit(cluster, "predict", tmp_path / "generated", *generated))
    for job in jobs:
        assert cluster.wait(job, tmp_path)["JobState"] == "COMPLETED", logs_of(tmp_path)
    alone = [start(cluster, "test", *measured, "--out", tmp_path / "one")]
    alone.append(start(cluster, "predict", *generated, "--out", tmp_path / "alone"))
    for process in alone:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said[-3000:]
    many, one = (json.loads((tmp_path / name / "results.json").read_text())["vlad"] for name in ("many", "one"))
    assert many == one  # with the bootstrap's intervals, which depend on the samples' order
    assert one["sentence_accuracy"]["n"] == 5
    images, expected = (sorted((tmp_path / name / "images").iterdir()) for name in ("generated", "alone"))
    assert [path.name for path in images] == [path.name for path in expected]
    assert len(images) == 10
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(images, expected, strict=True))


def test_doctor_finds_nothing_on_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    port = {"MASTER_PORT": "29871"}
    command = [
        sys.executable,
        "-m",
        "vlad_lightning",
        "doctor",
        "--out",
        str(tmp_path),
        "--timeout=120",
        "--json",
        str(tmp_path / "d"),
    ]
    many = Cluster({**cluster.environment, **port})
    done = many.run("srun", "--nodes=2", "--ntasks-per-node=1", *command, check=False)
    checks = {check["name"]: check for check in json.loads((tmp_path / "d").read_text())["checks"]}
    assert "2 on 2 nodes: node1, node2" in checks["ranks"]["found"]
    assert {check["level"] for name, check in checks.items() if "disk" not in name} == {"ok"}, done.stdout
