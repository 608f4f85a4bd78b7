from __future__ import annotations

import pytest

from vlad_lightning.cli.slurm_tasks import check_tasks


def environment(tasks: object, **more: object) -> dict[str, str]:
    return {"SLURM_NTASKS": str(tasks), "SLURM_JOB_NAME": "stage", **{k: str(v) for k, v in more.items()}}


@pytest.mark.parametrize(
    ("found", "devices", "nodes", "parallel"),
    [
        ({}, 4, 2, True),  # no SLURM
        ({"SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}, 1, 1, False),  # in an allocation, without srun
        (environment(1), 1, 1, False),
        (environment(1, SLURM_NNODES=1, SLURM_NTASKS_PER_NODE=1), 1, 1, False),
        (environment(8, SLURM_NNODES=2, SLURM_NTASKS_PER_NODE=4), 4, 2, True),
        (environment(2, SLURM_NNODES=2), 1, 2, True),
        (environment(8) | {"SLURM_JOB_NAME": "bash"}, 1, 1, False),
        (environment(8) | {"SLURM_JOB_NAME": "interactive"}, 1, 1, False),
        (environment(2, SLURM_NNODES=2, TORCHELASTIC_RUN_ID="x"), 8, 2, True),  # torchrun in each task
        (environment("many"), 1, 1, False),
    ],
)
def test_matching_tasks_and_launchers_pass(found: dict[str, str], devices: int, nodes: int, parallel: bool) -> None:
    check_tasks(found, devices, nodes, parallel)


def test_tasks_that_would_each_train_alone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SLURM started 2 tasks \(SLURM_NTASKS=2, SLURM_NNODES=1\).*devices=1"):
        check_tasks(environment(2, SLURM_NNODES=1), 1, 1, parallel=False)


@pytest.mark.parametrize(
    ("found", "devices", "nodes", "words"),
    [
        (environment(1, SLURM_NNODES=1), 2, 1, "trainer.devices=2 times trainer.num_nodes=1 are 2 processes"),
        (environment(4, SLURM_NNODES=2, SLURM_NTASKS_PER_NODE=2), 4, 1, "SLURM_NNODES=2, SLURM_NTASKS_PER_NODE=2"),
        (environment(8, SLURM_NNODES=2, SLURM_NTASKS_PER_NODE=4), 2, 4, "srun --nodes=4 --ntasks-per-node=2"),
        (environment(4, SLURM_NNODES=2), 4, 2, "are 8 processes, but SLURM started SLURM_NTASKS=4"),
    ],
)
def test_other_numbers_are_refused(found: dict[str, str], devices: int, nodes: int, words: str) -> None:
    with pytest.raises(ValueError, match="a task for each device") as error:
        check_tasks(found, devices, nodes, parallel=True)
    assert words in str(error.value)
