"""Actions that the first process does for all: the others learn the outcome, so none waits for a failed one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


class SaveFailedError(OSError):
    """A save that failed on the disk; raised on every process alike."""


def rank() -> int:
    """Return the rank of this process; 0 without a process group."""
    return dist.get_rank() if _grouped() else 0


def barrier() -> None:
    """Wait for all processes; do nothing without a process group."""
    if _grouped():
        dist.barrier()


def is_first_of_node() -> bool:
    """Return whether this process is the first of its node, according to its launcher; True without a launcher."""
    names = ("LOCAL_RANK", "SLURM_LOCALID")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def on_each_node(act: Callable[[], object]) -> None:
    """Run ``act`` on the first process of each node; all processes call this together, and all raise if one failed.

    Raises:
        Exception: the error of ``act``, on the process that raised it.
        ValueError: on the others, with the same text.
    """
    failure: Exception | None = None
    if is_first_of_node() or not _grouped():
        try:
            act()
        except Exception as error:
            failure = error
    failures: list[str | None] = [None if failure is None else str(failure)]
    if _grouped():
        failures *= dist.get_world_size()
        dist.all_gather_object(failures, failures[0])
    if failure is not None:
        raise failure
    for number, text in enumerate(failures):
        if text is not None:
            raise ValueError(f"{text} (process {number})")


def on_first(act: Callable[[], T]) -> T:
    """Run ``act`` on the first process; all processes call this together.

    Args:
        act: the action; its result is sent to the others and has to be picklable.

    Returns:
        The result of ``act`` on the first process.

    Raises:
        SaveFailedError: on every process, if ``act`` raised an ``OSError``.
        ValueError, RuntimeError: if it raised another error; the first process raises the original error.
    """
    result: T | None = None
    failure: Exception | None = None
    if rank() == 0:
        try:
            result = act()
        except Exception as error:
            failure = error
    result, failures = _from_first((result, None if failure is None else _sendable(failure)))
    if isinstance(failures, SaveFailedError):
        raise failures from failure
    if failures is not None:
        raise failure or failures
    return result  # type: ignore[return-value]  # None only where ``act`` returned it


def _sendable(error: Exception) -> Exception:
    """Return the error that the other processes raise."""
    if isinstance(error, ValueError):
        return ValueError(str(error))
    if not isinstance(error, OSError):
        return RuntimeError(f"process 0 failed: {type(error).__name__}: {error}")
    if error.errno is None:
        return SaveFailedError(str(error))
    return SaveFailedError(error.errno, error.strerror, None if error.filename is None else str(error.filename))


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _from_first(value: T) -> T:
    if not _grouped():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]
