"""Checks that the processes make together: all-reduce, clocks, and whether they see the same files."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from vlad_lightning.cli.doctor.check import Check
from vlad_lightning.cli.doctor.process import Meeting

_SIZES = (4 * 2**10, 2**20, 2**26)  # bytes: a flag, a small layer, gradients of 16 M parameters
_REPEATS = 5
_SKEW = 1.0  # seconds; with a larger skew, times of files and logs mislead


def join(meeting: Meeting) -> torch.device:
    """Form the process group, and return the device that its collectives run on."""
    process = meeting.process
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", process.local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
        # otherwise NCCL's time-out aborts the process from another thread instead of raising an error we can report
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=dist.PrefixStore("vlad-doctor-group", meeting.store),
        rank=process.rank,
        world_size=process.world_size,
        timeout=timedelta(seconds=meeting.seconds),
    )
    return device


def all_reduce(device: torch.device) -> Check:
    """Check that sums of several sizes are right, and measure how fast they are."""
    world, lines = dist.get_world_size(), []
    for size in _SIZES:
        values = torch.ones(size // 4, device=device)
        dist.all_reduce(values)  # the first one also connects the processes
        wrong = bool((values != world).any())
        times = [_timed(values.fill_(1), device) for _ in range(_REPEATS)]
        if wrong:
            return Check("all-reduce", "fail", f"a sum over {world} ones of {size} bytes is wrong", "check the network")
        seconds = median(times)
        bus = 2 * (world - 1) / world * size / seconds  # bytes that each process sends, as nccl-tests counts
        lines.append(f"{_bytes(size)} in {seconds * 1e3:.2f} ms ({bus / 1e9 * 8:.2f} Gb/s)")
    return Check("all-reduce", "ok", f"{dist.get_backend()}: {', '.join(lines)}")


def _timed(values: torch.Tensor, device: torch.device) -> float:
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(values)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def clocks(meeting: Meeting) -> Check:
    """Measure how far the nodes' clocks are apart, read after a common barrier."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    offsets = []
    for _ in range(_REPEATS):
        dist.barrier()
        now = torch.tensor([time.time()], dtype=torch.float64, device=device)
        seen = [torch.empty_like(now) for _ in range(dist.get_world_size())]
        dist.all_gather(seen, now)
        offsets.append([float(value - seen[0]) for value in seen])
    each = [median(column) for column in zip(*offsets, strict=True)]
    apart = max(each) - min(each)
    found = f"{apart * 1e3:.1f} ms apart at most"
    if apart <= _SKEW:
        return Check("clocks", "ok", found)
    far = max(range(len(each)), key=lambda rank: abs(each[rank]))
    found += f", {meeting.get(f'here/{far}')} the farthest"
    return Check("clocks", "warn", found, "run chrony or ntp on the nodes")


def shared_files(meeting: Meeting, out: Path, seconds: float = 10.0) -> Check:
    """Check that a file written by the first process appears for all others; network file systems take a moment."""
    name = "shared file system"
    process = meeting.process
    if process.rank == 0:
        token = out / f".doctor-{uuid.uuid4().hex}"
        try:
            token.write_text(token.name, encoding="utf-8")
            meeting.set("token", token.name)
        except OSError:
            meeting.set("token", "")
    token_name = meeting.get("token")
    seen = bool(token_name) and _appears(out / token_name, seconds)
    meeting.set(f"saw/{process.rank}", str(int(seen)))
    blind = [r for r in range(process.world_size) if meeting.get(f"saw/{r}") == "0"] if process.rank == 0 else []
    if process.rank == 0 and token_name:
        (out / token_name).unlink(missing_ok=True)
    if not blind:
        return Check(name, "ok", f"{out} is the same for all processes")
    found = f"{out}: rank 0's file is not seen by {', '.join(meeting.get(f'here/{r}') for r in blind)}"
    return Check(name, "fail", found, "--out has to be on a file system that all nodes share")


def _appears(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _bytes(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
