"""Compare skipped steps, roll-backs and the watchdog under DDP and FSDP2 with one process."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.processes import ended, free_port, start

WORKER = Path(__file__).with_name("health_worker.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def launch(scenario: str, strategy: str, folder: Path, ranks: int) -> list[subprocess.CompletedProcess[str]]:
    """Start each rank separately, like torchrun and SLURM, so that each has its own exit code."""
    folder.mkdir(parents=True)
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "health",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }
    outputs, errors = ([folder / f"{name}-{rank}" for rank in range(ranks)] for name in ("out", "err"))
    processes = []
    for rank, (out, err) in enumerate(zip(outputs, errors, strict=True)):
        environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        processes.append(start(WORKER, (scenario, strategy, str(folder)), environment, out, err, cwd=folder))
    return ended(processes, outputs, errors, limit=800)


def results(folder: Path, strategy: str, ranks: int) -> list[dict[str, Any]]:
    done = launch("poison", strategy, folder, ranks)
    assert all(p.returncode == 0 for p in done), "\n".join(p.stderr[-3000:] for p in done)
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(ranks)]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(tmp_path_factory.mktemp("single") / "out", "single", 1)[0]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_skip_and_roll_back_like_one_process(strategy: str, single: dict[str, Any], tmp_path: Path) -> None:
    ranks = results(tmp_path / "out", strategy, 2)
    assert single["bad_steps"] == [4, 8, 9, 10]
    assert (single["skipped"], single["rollbacks"]) == (4, 1)
    for rank in ranks:
        assert {k: rank[k] for k in ("bad_steps", "skipped", "rollbacks")} == {
            k: single[k] for k in ("bad_steps", "skipped", "rollbacks")
        }
        for step, expected in single["weights"].items():
            for key, value in expected.items():
                torch.testing.assert_close(rank["weights"][step][key], value, rtol=1e-4, atol=1e-5)
        for name in ("norms", "losses"):
            for value, wanted in zip(rank[name], single[name], strict=True):
                assert math.isnan(value) == math.isnan(wanted)
                assert math.isnan(wanted) or value == pytest.approx(wanted, rel=1e-4)
    for step, state in ranks[0]["weights"].items():
        assert all(torch.equal(state[k], ranks[1]["weights"][step][k]) for k in state)
    assert all(torch.equal(v, ranks[0]["weights"][6][k]) for k, v in ranks[0]["weights"][10].items())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["steps"], summary["samples"], summary["rollbacks"]) == (14, 56, 1)


def test_hung_rank_ends_every_rank_with_its_stacks(tmp_path: Path) -> None:
    done = launch("hang", "ddp", tmp_path / "out", 2)
    assert [p.returncode for p in done] == [76, 76], "\n".join(p.stderr[-3000:] for p in done)
    (stacks,) = (tmp_path / "out" / "stacks").iterdir()
    waiting, sleeping = ((stacks / f"rank{r}.txt").read_text() for r in range(2))
    assert "health_worker.py" in sleeping
    assert "in on_train_batch_start" in sleeping
    assert "in on_train_batch_start" not in waiting
    assert "after step 2" in waiting
    assert "no end of a batch for" in (stacks / "stalled.txt").read_text()
    assert not (tmp_path / "out" / "summary.json").exists()
