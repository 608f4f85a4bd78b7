"""Test real processes, alone and in pairs, on a healthy machine and on machines with a fault."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning.cli.doctor.check import Check, same, table, worst
from vlad_lightning.cli.doctor.compare import compare
from vlad_lightning.cli.doctor.facts import Facts, gather
from vlad_lightning.cli.doctor.process import Meeting, ProcessInfo, find_process
from vlad_lightning.cli.doctor.weights import check_sources, read_config
from vlad_lightning.files import configs_folder

GIB = 2**30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doctor(*args: object, rank: int, size: int, port: int, **environment: str) -> subprocess.Popen[str]:
    told = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-m", "vlad_lightning", "doctor", *map(str, args)],
        env={**os.environ, **{name: str(value) for name, value in told.items()}, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=280)
    return process.returncode, said


@pytest.mark.slow
def test_two_healthy_processes_pass(tmp_path: Path) -> None:
    port, report = free_port(), tmp_path / "report.json"
    first = doctor("--out", tmp_path, "--json", report, "--timeout", 200, rank=0, size=2, port=port)
    second = doctor("--out", tmp_path, "--timeout", 200, rank=1, size=2, port=port)
    code, said = ended(first)
    assert ended(second) == (0, "")
    assert code == 0, said
    checks = {check["name"]: check for check in json.loads(report.read_text())["checks"]}
    assert "2 processes started by torchrun met" in checks["meeting"]["found"]
    assert "gloo: 4 KiB in" in checks["all-reduce"]["found"]
    assert {"clocks", "shared file system", "writing", "version of torch", "version of vlad_lightning"} <= set(checks)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]  # no other leftovers


@pytest.mark.slow
def test_another_version_on_one_of_them_is_named(tmp_path: Path) -> None:
    other = tmp_path / "site" / "diffusers-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.1\n")
    paths = os.pathsep.join([str(other.parent), os.environ.get("PYTHONPATH", "")])
    port = free_port()
    first = doctor("--out", tmp_path, "--timeout", 200, rank=0, size=2, port=port)
    second = doctor("--out", tmp_path, "--timeout", 200, rank=1, size=2, port=port, PYTHONPATH=paths)
    (code, said), (other_code, _) = ended(first), ended(second)
    assert (code, other_code) == (1, 1)
    line = next(line for line in said.splitlines() if "version of diffusers" in line)
    assert line.startswith("fail")
    assert "has 0.1" in line


@pytest.mark.slow
def test_a_process_that_does_not_join_is_named(tmp_path: Path) -> None:
    code, said = ended(doctor("--out", tmp_path, "--timeout", 3, rank=0, size=3, port=free_port()))
    assert code == 1
    assert "2 of 3 processes did not come in 3 s: ranks 1, 2" in said
    code, said = ended(doctor("--out", tmp_path, "--timeout", 3, rank=1, size=3, port=free_port()))
    assert code == 1
    assert "rank 1 on" in said
    assert "cannot reach 127.0.0.1" in said


@pytest.mark.slow
def test_a_process_reports_its_checks_before_the_processes_join(tmp_path: Path) -> None:
    """The other process stops there, as if the network failed; NCCL may then end the first process."""
    port = free_port()
    first = doctor("--out", tmp_path, "--timeout", 200, rank=0, size=2, port=port)
    process = ProcessInfo(1, 2, 1, socket.gethostname(), "127.0.0.1", port, hosted=False, launcher="torchrun")
    other = Meeting(process, 200)
    other.set("facts/1", json.dumps(asdict(gather(process, tmp_path))))
    assert other.agree("alone", "ok") == "ok"
    told = []
    assert first.stdout is not None
    for line in first.stdout:
        told.append(line)
        if line.startswith("ok    writing"):
            break
    first.kill()
    told.append(ended(first)[1])
    assert told[0].startswith("ok    meeting")
    assert told[-2].startswith("ok    writing")
    assert "process group" not in told[-1]


@pytest.mark.slow
def test_one_process_checks_its_stage(posters: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    config = ("--config", configs_folder() / "mini/stage1_tlg.yaml", "--data.root", posters)
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "SLURM_PROCID")}
    command = [sys.executable, "-m", "vlad_lightning", "doctor", *map(str, config), "--out", str(blocked / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1, done.stderr
    lines = {line[6:].split("  ")[0]: line for line in done.stdout.splitlines() if line[4:6] == "  "}
    assert lines["writing"].startswith("fail")
    assert lines["checkpoint"].startswith("fail")
    assert str(blocked / "run" / "stage0" / "last.ckpt") in lines["checkpoint"]
    assert lines["data.root"].startswith("ok")


def facts(rank: int = 0, **changes: Any) -> Facts:
    plain: dict[str, Any] = {
        "rank": rank,
        "local_rank": rank % 2,
        "world_size": 4,
        "node": f"n{rank // 2}",
        "versions": {"torch": "2.15"},
        "device": f"GPU-{rank}",
        "gpu": "H100, 80 GiB",
        "gpus": 2,
        "driver": "580",
        "free_out": 100 * GIB,
        "free_temporary": 100 * GIB,
        "broken": {},
        "sources": (Check("data.root", "ok", "/data"),),
    }
    return Facts(**plain | changes)


@pytest.mark.parametrize(
    ("changes", "name", "level", "message"),
    [
        ({}, "ranks", "ok", "4 on 2 nodes: n0, n1"),
        ({"world_size": 1}, "ranks", "fail", "rank 3 on n1 belongs to 1 processes"),
        ({"local_rank": 0}, "ranks", "fail", "local rank 0 on n1"),
        ({"node": "n0", "local_rank": 2}, "ranks", "fail", "not equally many"),
        ({"versions": {"torch": "2.14"}}, "version of torch", "fail", "rank 3 on n1 has 2.14"),
        ({"gpu": ""}, "GPU", "fail", "rank 3 on n1 has none"),
        ({"driver": "570"}, "GPU driver", "fail", "rank 3 on n1 has 570"),
        ({"device": "GPU-2"}, "GPU of each rank", "fail", "rank 2 on n1, rank 3 on n1 share one GPU"),
        ({"gpus": 1}, "GPUs a rank sees", "fail", "rank 3 on n1 sees 1, and there are 2 ranks on its node"),
        ({"free_out": 10 * GIB}, "disk of the run", "warn", "10.0 GiB free, least at rank 3 on n1"),
        ({"free_temporary": 0}, "temporary disk", "fail", "0.0 GiB free"),
        (
            {"sources": (Check("data.root", "fail", "/data is not there", "mount it"),)},
            *("data.root", "fail", "/data is not there at rank 3 on n1"),
        ),
        ({"broken": {"/x": "Read-only file system"}}, "writing", "fail", "rank 3 on n1: /x: Read-only file system"),
    ],
)
def test_differences_between_processes_are_named(changes: dict[str, Any], name: str, level: str, message: str) -> None:
    checks = {check.name: check for check in compare([*map(facts, range(3)), facts(3, **changes)], "runs")}
    assert checks[name].level == level
    assert message in checks[name].found
    assert bool(checks[name].advice) == (level != "ok")


def test_the_table_has_one_line_per_check_and_advice_below() -> None:
    checks = [same("a", ["1", "1"], ["x", "y"], "do"), same("long name", ["1", "2", "2"], ["x", "y", "z"], "do")]
    assert table(checks) == "ok    a          1\nfail  long name  2, but x has 1\n                 -> do"
    assert table(checks[:1], width=9) == table(checks).split("\n")[0]  # it is above later lines
    assert table([]) == ""
    assert worst(checks) == "fail"
    assert worst(checks[:1]) == "ok"


def test_ranks_are_read_from_the_launchers_variables() -> None:
    assert find_process({}).launcher == "alone"
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}
    meeting = {"MASTER_ADDR": "n0", "MASTER_PORT": "1234", "SLURMD_NODENAME": "n1"}
    process = find_process(slurm | meeting)
    assert (process.rank, process.world_size, process.local_rank, process.node, process.port) == (3, 4, 1, "n1", 1234)
    with pytest.raises(ValueError, match="MASTER_ADDR is '' and MASTER_PORT ''"):
        find_process(slurm)
    with pytest.raises(ValueError, match=r"SLURM_PROCID is 3"):
        find_process(slurm | meeting | {"SLURM_NTASKS": "2"})


def test_sources_of_the_paper_scale_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("vlad_lightning.cli.doctor.weights.scan_cache_dir", lambda: _scan(cache))
    config = read_config(["stage2_vfe.yaml"], str(tmp_path), str(tmp_path))
    levels = {(check.name, check.level) for check in check_sources(config)}
    assert levels == {("data.root", "ok"), ("checkpoint", "fail"), ("weights", "fail")}
    revision = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    repository = cache / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "snapshots" / revision / "model_index.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    assert {(c.name, c.level) for c in check_sources(config)} >= {("weights", "ok"), ("checkpoint", "fail")}


def test_callbacks_are_appended_or_replaced_as_by_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "stage: mine\ntrainer: {callbacks+: [{class_path: InitFrom, init_args: {checkpoint: '{out}/{stage}.ckpt'}}]}"
    )
    shipped = [checkpoint.found for checkpoint in check_sources(read_config(["mini/stage1_tlg.yaml"], "x", "x"))]
    assert "x/stage0/last.ckpt is not there" in shipped
    both = read_config(["mini/stage1_tlg.yaml", str(tmp_path / "own.yaml")], "x", "x")
    assert {check.found for check in check_sources(both)} == {*shipped, "x/mine.ckpt is not there"}
    later = read_config(["mini/stage2_vfe.yaml", "ablations/from_demo.yaml"], "x", "x")
    assert {check.found for check in check_sources(later) if check.name == "checkpoint"} == {
        f"runs/demo/stage{number}/last.ckpt is not there" for number in (0, 1)
    }


def _scan(cache: Path) -> Any:
    from huggingface_hub import scan_cache_dir

    return scan_cache_dir(cache)


def test_a_configuration_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        read_config(["nowhere.yaml"], None, None)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ValueError, match="not a YAML file"):
        read_config([str(broken)], None, None)
