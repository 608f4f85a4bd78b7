"""The rank of this process as given by srun or torchrun, and a store through which all processes communicate."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import TCPStore

from vlad_lightning.cli.doctor.check import Level

_ALONE = ("127.0.0.1", 29400)
_PREFIX = "vlad-doctor"


@dataclass(frozen=True)
class ProcessInfo:
    """A process among those of a run.

    Attributes:
        rank: the rank among all processes.
        world_size: the number of processes.
        local_rank: the rank among the processes of its node.
        node: the node's name.
        address: the host of the first process, where all meet.
        port: the port on that host.
        hosted: whether another program, such as torchrun's agent, listens on that port already.
        launcher: ``srun``, ``torchrun``, or ``alone``.
    """

    rank: int
    world_size: int
    local_rank: int
    node: str
    address: str
    port: int
    hosted: bool
    launcher: str

    @property
    def name(self) -> str:
        """The process's name in reports."""
        return f"rank {self.rank} on {self.node}"


def find_process(environment: Mapping[str, str]) -> ProcessInfo:
    """Read this process's rank and address from its environment.

    Raises:
        ValueError: if the launcher's variables are missing or contradict each other.
    """
    node = environment.get("SLURMD_NODENAME") or socket.gethostname()
    if "RANK" in environment and "WORLD_SIZE" in environment:
        launcher, names = "torchrun", ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment:
        launcher, names = "srun", ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    else:
        return ProcessInfo(0, 1, 0, node, *_ALONE, hosted=False, launcher="alone")
    try:
        rank, world_size, local_rank = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{launcher} must set {' and '.join(names)} to numbers: {error}") from error
    if not 0 <= rank < world_size:
        raise ValueError(f"{names[0]} is {rank}; it must lie in [0, {names[1]}={world_size})")
    address, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    if world_size > 1 and not (address and port.isdigit()):
        raise ValueError(
            f"MASTER_ADDR is {address!r} and MASTER_PORT {port!r}; with {world_size} processes both are needed: "
            "the first node's name and a free port (configs/cluster/slurm/stage.sbatch exports them)"
        )
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return ProcessInfo(rank, world_size, local_rank, node, address or _ALONE[0], int(port or 0), hosted, launcher)


class Meeting:
    """A key-value store that the first process serves to all; each process registers in it.

    Args:
        process: this process.
        seconds: how long to wait for the other processes.

    Raises:
        ConnectionError: if this process does not reach the first one, or the port is taken.
    """

    def __init__(self, process: ProcessInfo, seconds: float) -> None:
        self.process = process
        self.seconds = seconds
        self._absent: set[int] = set()
        host = process.rank == 0 and not process.hosted
        try:
            self.store = TCPStore(
                "0.0.0.0" if host and process.world_size > 1 else process.address,
                process.port if process.world_size > 1 else 0,
                is_master=host,
                timeout=timedelta(seconds=seconds),
                wait_for_workers=False,
            )
        except RuntimeError as error:
            what = "cannot listen on" if host else "cannot reach"
            raise ConnectionError(
                f"{process.name} {what} {process.address}:{process.port} in {seconds:.0f} s; MASTER_ADDR has to be the "
                f"first process's node, the port free and open to all nodes ({_first_line(error)})"
            ) from error
        self.set(f"here/{process.rank}", process.name)

    def set(self, key: str, value: str) -> None:
        """Store a value that all processes can read."""
        self.store.set(f"{_PREFIX}/{key}", value)

    def get(self, key: str) -> str:
        """Return the value of a key, and wait until a process sets it.

        Raises:
            ConnectionError: if the time is up or the first process has ended.
        """
        try:
            return bytes(self.store.get(f"{_PREFIX}/{key}")).decode()
        except RuntimeError as error:
            raise ConnectionError(f"no process sent {key!r} in {self.seconds:.0f} s") from error

    def missing(self, what: str) -> list[int]:
        """Return the ranks that have not sent ``what`` in time, each rank once only; the first process calls this."""
        waited = [rank for rank in range(self.process.world_size) if rank not in self._absent]
        end = time.monotonic() + self.seconds
        while waited and time.monotonic() < end:
            waited = [rank for rank in waited if not self.store.check([f"{_PREFIX}/{what}/{rank}"])]
            time.sleep(0.05 if waited else 0)
        self._absent.update(waited)
        return waited

    def agree(self, what: str, level: Level) -> Level:
        """Return ``fail`` in every process if one of them has it or is missing, else this process's level.

        The store ends with the first process, so the first process waits until the others have read the result.
        """
        rank = self.process.rank
        self.set(f"{what}/{rank}", level)
        if rank == 0:
            self.missing(what)
            levels = [self.get(f"{what}/{r}") for r in range(self.process.world_size) if r not in self._absent]
            self.set(f"{what}/all", "fail" if self._absent or "fail" in levels else level)
        agreed = self.get(f"{what}/all")
        self.set(f"{what}-read/{rank}", "")
        if rank == 0:
            self.missing(f"{what}-read")
        return "fail" if agreed == "fail" else level


def own_environment() -> Mapping[str, str]:
    """Return the environment variables of this process."""
    return os.environ


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
