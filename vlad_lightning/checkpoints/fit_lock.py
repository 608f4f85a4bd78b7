"""A lock file that lets one fit at a time write to a folder; it names the host and the process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from vlad_lightning.files import NOTE_BYTES, read_utf8

NAME = ".fit.lock"


@dataclass(frozen=True)
class _Holder:
    """The process that holds a lock; its start time distinguishes it from a later process with the same number.

    Attributes:
        host: the host name.
        pid: the process number on that host.
        began: its start time, see :func:`_state`; empty if unknown.
        job: the SLURM job number; empty outside a job.
        restarts: how often SLURM had restarted the job.
    """

    host: str
    pid: int
    began: str = ""
    job: str = ""
    restarts: int = 0


def refuse_if_held(folder: Path) -> None:
    """Refuse a folder that another fit writes to.

    Raises:
        ValueError: names the process, and the file to remove if that process is known to have ended.
    """
    _stale(folder / NAME)


def take(folder: Path) -> None:
    """Lock a folder for this process; take over the lock of a process that has ended, with a warning.

    Raises:
        ValueError: see :func:`refuse_if_held`.
        OSError: if the file cannot be written.
    """
    path = folder / NAME
    if (left := _stale(path)) is not None:
        if left != _this():
            warnings.warn(
                f"{path} was left by {_describe(left)}, which has ended; this fit takes it over", stacklevel=2
            )
        path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:  # another fit was quicker
        refuse_if_held(folder)
        raise
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(_this())))


def release(folder: Path) -> None:
    """Remove the lock if this process holds it; one that cannot be removed is stale when the process ends."""
    path = folder / NAME
    with contextlib.suppress(OSError):
        if _read(path) == _this():
            path.unlink()


def _stale(path: Path) -> _Holder | None:
    """Return the process that left a stale lock; None if there is no lock.

    Raises:
        ValueError: if its process may still be running.
    """
    try:
        holder = _read(path)
    except FileNotFoundError:
        return None
    if _has_ended(holder):
        return holder
    raise ValueError(
        f"{path.parent} is being written by another fit, {_describe(holder)}: wait for it, or name another --out. "
        f"If that fit has ended, remove {path}"
    )


def _has_ended(holder: _Holder) -> bool:
    me = _this()
    if holder.host == me.host:
        return not holder.pid or holder.pid == me.pid or not _runs(holder)
    return bool(holder.job) and holder.job == me.job and holder.restarts < me.restarts  # SLURM ended it on that host


def _runs(holder: _Holder) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        pass
    state, began = _state(holder.pid)
    if state in ("Z", "X"):  # it was killed, and its parent does not ask for how it ended, as in some containers
        return False
    return not holder.began or began in ("", holder.began)


def _read(path: Path) -> _Holder:
    """Return the process that a lock names; if the file is damaged, a process on this host with the number 0."""
    try:
        holder = _Holder(**json.loads(read_utf8(path, NOTE_BYTES)))
        if isinstance(holder.pid, int) and isinstance(holder.restarts, int):
            return holder
    except (ValueError, TypeError, RecursionError):
        pass
    return _Holder(socket.gethostname(), 0)


def _this() -> _Holder:
    pid, restarts = os.getpid(), os.environ.get("SLURM_RESTART_COUNT", "")
    job = os.environ.get("SLURM_JOB_ID", "")
    return _Holder(socket.gethostname(), pid, _state(pid)[1], job, int(restarts) if restarts.isdecimal() else 0)


def _state(pid: int) -> tuple[str, str]:
    """Return a process's state, such as ``S``, and its start in clock ticks since boot (Linux); empty if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    numbers = stat.rpartition(")")[2].split()
    return numbers[0], numbers[19]


def _describe(holder: _Holder) -> str:
    return f"process {holder.pid} on {holder.host}" if holder.pid else "a process that it does not name"
