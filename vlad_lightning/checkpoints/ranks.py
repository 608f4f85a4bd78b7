"""What the first process does for all: the others learn how it went, so none waits for one that failed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


class SaveFailedError(OSError):
    """A save that the disk refused; raised on every process alike."""


def rank() -> int:
    """Of this process; 0 where there is no group."""
    return dist.get_rank() if _grouped() else 0


def barrier() -> None:
    """Wait for all; nothing where there is no group."""
    if _grouped():
        dist.barrier()


def is_first_of_node() -> bool:
    """Whether this process is the first one of its node, as its launcher says; True where none says so."""
    names = ("LOCAL_RANK", "SLURM_LOCALID")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def on_each_node(act: Callable[[], object]) -> None:
    """Let the first process of each node act; all of them call this together, and none goes on where one failed.

    Raises:
        Exception: what ``act`` raised, on the process where it did.
        ValueError: on the others, with its text.
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
    """Let the first process act; all of them call this together.

    Args:
        act: what it does; its result has to be picklable, for it is sent to the others.

    Returns:
        What the first process' ``act`` returned.

    Raises:
        SaveFailedError: on every process, where ``act`` raised an ``OSError``.
        ValueError, RuntimeError: where it raised something else, which the first process itself raises as it was.
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
    """What the others raise."""
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
