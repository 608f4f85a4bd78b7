"""Test the shipped sbatch files with fake SLURM programs; tests/slurm runs them on a real cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vlad_lightning.exit_codes import STALLED
from vlad_lightning.files import configs_folder

SCRIPTS = configs_folder() / "cluster" / "slurm"
JOB = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NAME": "stage2", "SLURM_NNODES": "4", "SLURM_NTASKS_PER_NODE": "8"}


def stand_in(folder: Path, name: str, body: str) -> None:
    """Make a program that writes its arguments, one per line, and then runs ``body``."""
    program = folder / name
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" "--" >> "{folder}/{name}.args"\n{body}\n')
    program.chmod(0o755)


def script(folder: Path, name: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = f"{folder}:{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "MASTER", "OMP", "VLAD"))}
    return subprocess.run(
        ["bash", SCRIPTS / name, *args],
        env=clean | {"PATH": paths} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)


def test_the_common_lines_of_all_jobs_are_equal() -> None:
    """Each file is whole by itself: sbatch copies it away from its folder, and a site changes its own copy."""
    texts = [path.read_text() for path in SCRIPTS.glob("*.sbatch")]
    shared = {text[text.index("\nset -u\n") : text.index("\nread -r -a run ")] for text in texts}
    assert len(texts) == 3
    assert len(shared) == 1
    assert "MASTER_PORT" in shared.pop()


@pytest.mark.parametrize(("name", "command"), [("stage", "fit"), ("test", "test"), ("predict", "predict")])
@pytest.mark.parametrize("code", [0, 75])
def test_a_job_runs_its_command_on_every_task_and_ends_with_its_code(
    tmp_path: Path, name: str, command: str, code: int
) -> None:
    stand_in(tmp_path, "srun", f'env > "{tmp_path}/seen"; exit {code}')
    stand_in(tmp_path, "scontrol", "printf 'node7\\nnode8\\n'")
    args = ("out", "--config", "a b.yaml")
    done = script(tmp_path, f"{name}.sbatch", *args, **JOB, SLURM_CPUS_PER_TASK="6", SLURM_JOB_NODELIST="node[7-8]")
    assert done.returncode == code
    assert f"exit code {code}" in done.stdout
    asked = (tmp_path / "srun.args").read_text().splitlines()
    resumes = ["--ckpt_path", "last"] if command == "fit" else []
    assert asked[asked.index("vlad-cli") :] == [
        *("vlad-cli", command, "--config", "a b.yaml", "--out", "out", *resumes),
        *("--trainer.num_nodes", "4", "--trainer.devices", "8", "--"),
    ]
    assert "--output=out/slurm/stage2-123456/%t.log" in asked
    seen = (tmp_path / "seen").read_text().splitlines()
    assert {"MASTER_ADDR=node7", "MASTER_PORT=23456", "OMP_NUM_THREADS=6", "SRUN_CPUS_PER_TASK=6"} <= set(seen)
    assert (tmp_path / "out" / "slurm" / "stage2-123456").is_dir()


@pytest.mark.parametrize(("restarts", "again"), [("", True), ("4", True), ("5", False)])
def test_a_hung_fit_is_requeued_a_few_times(tmp_path: Path, restarts: str, again: bool) -> None:
    stand_in(tmp_path, "srun", f"exit {STALLED}")
    stand_in(tmp_path, "scontrol", "echo node7")
    counted = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    assert script(tmp_path, "stage.sbatch", "out", **JOB, SLURM_JOB_NODELIST="node7", **counted).returncode == STALLED
    assert ("requeue\n123456\n" in (tmp_path / "scontrol.args").read_text()) is again


def test_a_job_without_a_folder_is_refused(tmp_path: Path) -> None:
    done = script(tmp_path, "stage.sbatch", **JOB)
    assert done.returncode != 0
    assert "the first argument is the folder of the run" in done.stderr


def test_a_chain_waits_for_the_stage_before(tmp_path: Path) -> None:
    stand_in(tmp_path, "sbatch", f'wc -l < "{tmp_path}/sbatch.args"')
    options = {"SBATCH_OPTIONS": "--nodes=4 --gpus-per-node=8"}
    done = script(tmp_path, "chain.sh", "out", str(configs_folder() / "mini"), "--trainer.max_steps=3", **options)
    assert done.returncode == 0, done.stderr
    jobs = [line.split() for line in done.stdout.splitlines()]
    assert [stage for stage, _ in jobs] == ["stage0", "stage1", "stage2"]
    calls = (tmp_path / "sbatch.args").read_text().split("--\n")[:-1]
    assert "--dependency" not in calls[0]
    assert f"--dependency=afterok:{jobs[0][1]}\n" in calls[1]
    assert f"--dependency=afterok:{jobs[1][1]}\n" in calls[2]
    for call, config in zip(calls, ("stage0_align", "stage1_tlg", "stage2_vfe"), strict=True):
        assert call.splitlines()[-4:] == [
            "out",
            "--config",
            f"{configs_folder()}/mini/{config}.yaml",
            "--trainer.max_steps=3",
        ]
        assert {"--nodes=4", "--gpus-per-node=8", "--parsable"} <= set(call.splitlines())


def test_a_chain_of_configurations_that_are_not_there_submits_nothing(tmp_path: Path) -> None:
    stand_in(tmp_path, "sbatch", "echo 1")
    done = script(tmp_path, "chain.sh", "out", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert not (tmp_path / "sbatch.args").exists()
