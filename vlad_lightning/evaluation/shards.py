"""Which part of a generation this process does: an option's, or that of its SLURM task."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """A part of a list of batches: every ``count``-th, from ``index``.

    Attributes:
        index: from 0.
        count: number of parts.
    """

    index: int = 0
    count: int = 1


def find_shard(option: str | None, environment: Mapping[str, str] | None = None) -> Shard:
    """Return this process's shard: that of the option, else that of the SLURM task, else the whole.

    Only tasks that ``srun`` started share the work: the script of a job has the same variables but is alone.

    Args:
        option: ``I/N`` with 0 <= I < N; None if it is not given.
        environment: the environment variables; None reads the process's.

    Raises:
        ValueError: for another form.
    """
    if option is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", option)
        if not found or not int(found[1]) < int(found[2]):
            raise ValueError(f"--shard is {option!r}; it must be I/N with 0 <= I < N, such as 0/4")
        return Shard(int(found[1]), int(found[2]))
    told = os.environ if environment is None else environment
    tasks = _number(told, "SLURM_STEP_NUM_TASKS")
    if tasks is None and "SLURM_STEP_ID" in told:
        tasks = _number(told, "SLURM_NTASKS")
    rank = _number(told, "SLURM_PROCID")
    return Shard(rank, tasks) if tasks and rank is not None and rank < tasks else Shard()


def local_rank(environment: Mapping[str, str] | None = None) -> int:
    """Return the number of this task among those on its machine; 0 outside SLURM."""
    return _number(os.environ if environment is None else environment, "SLURM_LOCALID") or 0


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
