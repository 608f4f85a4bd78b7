from __future__ import annotations

import pytest

from vlad_lightning.evaluation.shards import Shard, find_shard, local_rank


def test_the_option_wins_over_the_task() -> None:
    assert find_shard("1/3", {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}) == Shard(1, 3)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, Shard(0, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "8"}, Shard(2, 4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, Shard(2, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Shard(0, 1)),  # a job's script, which srun did not start
    ],
)
def test_a_task_of_srun_is_a_shard(environment: dict[str, str], shard: Shard) -> None:
    assert find_shard(None, environment) == shard


@pytest.mark.parametrize("option", ["3/3", "1", "-1/2", "a/b", "0/0"])
def test_other_shards_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match="it must be I/N with 0 <= I < N"):
        find_shard(option)


def test_the_local_rank_is_slurms() -> None:
    assert local_rank({"SLURM_LOCALID": "3"}) == 3
    assert local_rank({}) == 0
