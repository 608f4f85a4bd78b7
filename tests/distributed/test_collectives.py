"""Compare the counter with collectives of known sizes, in two real processes with gloo."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import traffic
from collectives import Call, CollectiveCounter, received_bytes
from distributed.processes import run_processes
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn.functional import all_gather as gather_with_gradients
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.slow

RANKS = 2
SIDE = 64


def known(rank: int) -> dict[str, list[list[object]]]:
    """Return the expected count of each kind."""
    found: dict[str, list[list[object]]] = {}

    def note(name: str, counter: CollectiveCounter) -> None:
        found[name] = [[call.name, call.size, call.ranks] for call in counter.calls]

    x = torch.ones(1000)
    for name, act in {
        "all_reduce": lambda: dist.all_reduce(x),
        "all_gather": lambda: dist.all_gather([torch.empty(1000) for _ in range(RANKS)], x),
        "all_gather_tensor": lambda: dist.all_gather_into_tensor(torch.empty(RANKS * 1000), x),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(torch.empty(500), x),
        "broadcast": lambda: dist.broadcast(x, 0),
        "scatter": lambda: dist.scatter(torch.empty(500), [x[:500], x[500:]] if rank == 0 else None, 0),
        "barrier": lambda: dist.barrier(),
    }.items():
        with CollectiveCounter() as counter:
            act()
        note(name, counter)

    rows = torch.ones(8, 16, requires_grad=True)
    with CollectiveCounter() as counter:
        sum(part.sum() for part in gather_with_gradients(rows)).backward()
    note("gathered rows", counter)

    wrapped = DistributedDataParallel(nn.Linear(SIDE, SIDE), bucket_cap_mb=1)
    for _ in range(2):  # DDP rebuilds its buckets after the first step
        wrapped(torch.ones(2, SIDE)).sum().backward()
    with CollectiveCounter() as counter:
        wrapped(torch.ones(2, SIDE)).sum().backward()
    note("ddp", counter)

    cut = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False), nn.Linear(SIDE, SIDE, bias=False))
    for layer in cut:
        fully_shard(layer)
    fully_shard(cut)
    with CollectiveCounter() as counter:
        cut(torch.ones(2, SIDE)).sum().backward()
    note("fsdp", counter)
    return found


def work(rank: int, folder: str) -> None:
    store = dist.FileStore(str(Path(folder, "store")), RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    found = known(rank)
    large = torch.ones(2_000_000)
    before = received_bytes()
    dist.all_reduce(large)
    dist.barrier()
    found["sockets"] = [[received_bytes() - before]]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[list[object]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_processes(RANKS, Path(__file__), str(folder), limit=120)
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("all_reduce", [["allreduce_", 4000, 2]]),
        ("all_gather", [["allgather_", 8000, 2]]),
        ("all_gather_tensor", [["_allgather_base_", 8000, 2]]),
        ("reduce_scatter", [["_reduce_scatter_base_", 4000, 2]]),
        ("broadcast", [["broadcast_", 4000, 2]]),
        ("scatter", [["scatter_", 4000, 2]]),
        ("barrier", []),
        ("gathered rows", [["allgather_", 2 * 8 * 16 * 4, 2], *[["scatter_", 2 * 8 * 16 * 4, 2]] * 2]),
    ],
)
def test_collectives_have_their_sizes(found: list[dict[str, list[list[object]]]], name: str, calls: object) -> None:
    assert [rank[name] for rank in found] == [calls, calls]


def test_the_buckets_of_ddp_are_counted(found: list[dict[str, list[list[object]]]]) -> None:
    for rank in found:
        assert {name for name, *_ in rank["ddp"]} == {"allreduce_"}
        assert sum(size for _, size, _ in rank["ddp"]) == 4 * (SIDE * SIDE + SIDE)  # type: ignore[misc]


def test_the_gathers_and_scatters_of_fsdp_are_counted(found: list[dict[str, list[list[object]]]]) -> None:
    layer = 4 * SIDE * SIDE
    for rank in found:
        gathered = [size for name, size, _ in rank["fsdp"] if name == "_allgather_base_"]
        scattered = [size for name, size, _ in rank["fsdp"] if name == "_reduce_scatter_base_"]
        assert set(gathered) == set(scattered) == {layer}
        assert len(scattered) == 2
        assert len(gathered) == 4  # each layer before its forward pass and before its backward pass


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_the_bytes_on_the_sockets_equal_the_arithmetic(found: list[dict[str, list[list[object]]]]) -> None:
    expected = traffic.all_reduce(8_000_000, RANKS)
    for rank in found:
        assert rank["sockets"][0][0] == pytest.approx(expected, rel=0.01)


def test_a_call_has_its_traffic() -> None:
    assert Call("allreduce_", 1000, 4).sent == traffic.all_reduce(1000, 4)
    assert Call("_allgather_base_", 1000, 4).sent == traffic.all_gather(1000, 4)


if __name__ == "__main__":
    work(int(os.environ["RANK"]), sys.argv[1])
