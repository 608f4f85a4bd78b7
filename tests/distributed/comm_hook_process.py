"""Run one of two ranks that average gradients by a hook: `python comm_hook_process.py MODULE.NAME_OF_THE_HOOK`."""

from __future__ import annotations

import os
import pkgutil
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def gradients(network: nn.Module, rows: Tensor) -> list[Tensor]:
    network.zero_grad()
    network(rows).square().mean().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def main(hook: str) -> None:
    dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=2)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 1))
    rows = torch.randn(16, 8, generator=torch.Generator().manual_seed(dist.get_rank()))
    own = gradients(network, rows)
    means, sizes = [g / 2 for g in own], [g.abs() / 2 for g in own]
    for value in (*means, *sizes):
        dist.all_reduce(value)
    parallel = DistributedDataParallel(network, gradient_as_bucket_view=True)
    parallel.register_comm_hook(None, pkgutil.resolve_name(hook))
    for found, mean, size in zip(gradients(parallel, rows), means, sizes, strict=True):
        assert torch.equal(found, found.bfloat16().float())  # the received numbers are bfloat16
        rounding = 1.01 * (2**-8 + 2**-8)  # of the sent numbers and of the sum: half a unit of 8 bits each
        assert bool(((found - mean).abs() <= rounding * size).all())
    dist.barrier()
    # Gloo's threads may still hold the hook's futures: freed while the interpreter ends, these abort the process.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
