"""Count the communication in a group of processes: every collective with its size, and the bytes on the sockets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import traffic
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TRAFFIC: dict[str, Callable[[float, int], float]] = {
    "allreduce_": traffic.all_reduce,
    "allreduce_coalesced_": traffic.all_reduce,
    "allgather_": traffic.all_gather,
    "allgather_coalesced_": traffic.all_gather,
    "allgather_into_tensor_coalesced_": traffic.all_gather,
    "_allgather_base_": traffic.all_gather,
    "reduce_scatter_": traffic.reduce_scatter,
    "reduce_scatter_tensor_coalesced_": traffic.reduce_scatter,
    "_reduce_scatter_base_": traffic.reduce_scatter,
    "alltoall_": traffic.all_to_all,
    "alltoall_base_": traffic.all_to_all,
    "broadcast_": traffic.broadcast,
    "scatter_": traffic.scatter,
}
_SILENT = ("barrier", "monitored_barrier_")
_RECEIVED = 128  # offset of tcpi_bytes_received (8 bytes) in Linux's TCP_INFO


@dataclass(frozen=True)
class Call:
    """One collective of a rank.

    Attributes:
        name: name of the operation in torch's namespace c10d.
        size: bytes of the whole tensor, as :mod:`traffic` expects it.
        ranks: number of ranks in its group.
    """

    name: str
    size: int
    ranks: int

    @property
    def sent(self) -> float:
        """Bytes a rank sends, the mean over the ranks."""
        return TRAFFIC[self.name](self.size, self.ranks)


class CollectiveCounter(TorchDispatchMode):
    """A context that records the collectives of this process: DDP's buckets, FSDP2's gathers, ``torch.distributed``.

    All of them pass through torch's dispatcher as operations of c10d, DDP's from C++ too.

    Attributes:
        calls: the collectives in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record a collective and run it."""
        name = func._schema.name
        if name.startswith("c10d::"):
            self._note(name.removeprefix("c10d::"), args)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, args: Any) -> None:
        if name in _SILENT:
            return
        if name not in TRAFFIC:
            raise NotImplementedError(f"c10d::{name} is not among the collectives whose traffic is known")
        group = next(a for a in args if isinstance(a, torch.ScriptObject) and "ProcessGroup" in str(a._type()))
        ranks = dist.ProcessGroup.unbox(group).size()
        if name == "scatter_":  # only the root holds the whole tensor; the others know their part
            size = bytes_of(args[0]) * ranks
        else:
            size = max(bytes_of(args[0]), bytes_of(args[1]) if isinstance(args[1], list | tuple | Tensor) else 0)
        self.calls.append(Call(name, size, ranks))


def bytes_of(values: Any) -> int:
    """Return the bytes of all tensors in ``values``."""
    return sum(v.numel() * v.element_size() for v in tree_leaves(values) if isinstance(v, Tensor))


def received_bytes() -> int:
    """Return the bytes that this process has received on its TCP sockets, including gloo's; Linux only."""
    return sum(map(_received, Path("/proc/self/fd").iterdir()))


def _received(entry: Path) -> int:
    try:
        if not str(entry.readlink()).startswith("socket:"):
            return 0
        with socket.socket(fileno=os.dup(int(entry.name))) as end:
            if end.family not in (socket.AF_INET, socket.AF_INET6) or end.type != socket.SOCK_STREAM:
                return 0
            info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:  # the socket was closed meanwhile, or is not connected
        return 0
    return int(struct.unpack_from("Q", info, _RECEIVED)[0]) if len(info) >= _RECEIVED + 8 else 0
