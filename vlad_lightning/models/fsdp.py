"""FSDP2 (Zhao et al., arXiv 2304.11277): which parts of a network are sharded, and in which units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

_MIDDLE = "mid_block"  # of a UNet: its only block that is in no list


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the units that are gathered in turn: levels of a UNet, layers of a transformer or of a text tower.

    They are the members of the outermost module lists, in which torch, diffusers and transformers keep modules that are
    called in sequence, and a UNet's middle block. Modules inside a block belong to it.
    """
    for name, child in module.named_children():
        if name == _MIDDLE:
            yield child
        elif isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks(child)


def shard(
    module: nn.Module, mesh: DeviceMesh, param_dtype: torch.dtype | None = None, methods: Iterable[str] = ()
) -> None:
    """Shard the trained parameters of ``module`` in place: each block is a unit, and all others are one more unit.

    Frozen parameters stay whole on every device: they have no gradients and no optimizer states, so sharding would save
    only their own memory, and gather them in every step. Scalars stay whole too, because ``fully_shard`` does not take
    them: see :func:`whole_parameters`.

    Args:
        module: a network on any device; its parameters must be equal on all processes.
        mesh: one dimension shards over all of it; two are (replicas, shards): hybrid sharding.
        param_dtype: dtype in which weights are gathered and multiplied; None means their own. With a dtype, gradients
            are reduced in float32; the shards, which the optimizer updates, keep their own dtype.
        methods: names of the methods of ``module``, besides ``forward``, that use its weights.

    Raises:
        ValueError: if ``module`` has no trained parameter but scalars.
    """
    if isinstance(module, FSDPModule):
        return
    kept = {p for p in module.parameters() if not p.requires_grad or p.ndim == 0}
    if len(kept) == len(set(module.parameters())):
        raise ValueError(f"nothing in {type(module).__name__} can be sharded: all of it is frozen or scalar")
    # inputs are not cast: a timestep of flow matching needs its float32, and autocast casts where needed
    policy = MixedPrecisionPolicy(
        param_dtype=param_dtype, reduce_dtype=torch.float32 if param_dtype else None, cast_forward_inputs=False
    )
    for block in blocks(module):
        if any(p not in kept for p in block.parameters()):
            fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=kept)
    fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=kept)
    for name in methods:
        register_fsdp_forward_method(module, name)


def whole_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the trained scalars of a sharded module; they stay whole, so the strategy averages their gradients."""
    return [p for p in module.parameters() if p.requires_grad and p.ndim == 0]


def is_sharded(module: nn.Module) -> bool:
    """Return whether the module is sharded, so that all processes have to use it together."""
    return isinstance(module, FSDPModule)


def reshard(module: nn.Module) -> None:
    """Free gathered parameters again; a forward pass without a backward pass leaves some of them gathered."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(value: Tensor) -> Tensor:
    """Return this process's part of a tensor; it shares the tensor's memory, so changes in place reach the tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def placed_as(value: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor, which every process holds, in the way ``like`` is sharded; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    whole = value.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
