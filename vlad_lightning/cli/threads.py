"""How many threads a process on the CPU should use: as many as there are processors that nothing else keeps busy.

On a busy machine, threads of one step wait for each other: with two on two processors that others use too, a step can
take several times as long as with one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"
"""The environment variable from which torch takes the number of threads."""

_STAT = Path("/proc/stat")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_IDLE = slice(3, 5)  # of a line of /proc/stat: idle, and waiting for a disk
_COUNTED = 8  # its further numbers are counted twice


def processors() -> int:
    """Return how many processors this process may use, by its affinity and by the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(count, int(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or the quota is `max`
        return count


def idle_processors(seconds: float = 1.0) -> float:
    """Return how many processors of the machine are idle, on average over some time.

    Args:
        seconds: how long to look; where the system does not tell (macOS), the load of the last minute is used.
    """
    try:
        before = _times()
        time.sleep(seconds)
        idle, total = (after - earlier for after, earlier in zip(_times(), before, strict=True))
    except (OSError, ValueError):
        return max(0.0, (os.cpu_count() or 1) - os.getloadavg()[0])
    return (os.cpu_count() or 1) * idle / total if total > 0 else 0.0


def _times() -> tuple[int, int]:
    """Return the time that all processors were idle, and all time, since the machine was started."""
    times = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1 : 1 + _COUNTED]]
    return sum(times[_IDLE]), sum(times)


def choose_threads(usable: int, idle: float) -> int:
    """Return the number of threads: the idle processors, but at least 1 and at most the usable ones.

    Args:
        usable: how many processors may be used.
        idle: how many are idle; half a processor counts as one.
    """
    return min(usable, max(1, int(idle + 0.5)))


def plan_threads(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Choose the number of threads of a process that is about to start.

    Args:
        environment: a number that is set there is kept.

    Returns:
        What to add to the environment, and the number with its reason, to be shown.
    """
    if given := environment.get(VARIABLE):
        return {}, f"threads: {given}, from {VARIABLE}"
    usable, idle = processors(), idle_processors()
    threads = choose_threads(usable, idle)
    return {VARIABLE: str(threads)}, f"threads: {threads}, as {idle:.1f} of {usable} processors are idle"
