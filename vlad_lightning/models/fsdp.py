"""FSDP2 (Zhao et al., arXiv 2304.11277): which parts of a network are sharded, and as what units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

_MIDDLE = "mid_block"  # of a UNet: the one block that stands in no list


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The units that are gathered one after the other: levels of a UNet, layers of a transformer or of a text tower.

    They are the members of the outermost lists of modules, which is how torch, diffusers and transformers keep
    what they call in a row, and a UNet's middle. What stands inside of a block belongs to it.
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
    """Shard what trains in ``module``, in place: each block is a unit, and all else is one more.

    What is frozen stays whole on every device: it has no gradients and no optimizer states, so sharding saves its
    weights only, and would gather them in every step. Scalars stay whole too, which ``fully_shard`` does not take: see
    :func:`whole_parameters`.

    Args:
        module: a network on any device; its parameters must be equal on all processes.
        mesh: one dimension shards over all of it; two are (replicas, shards): hybrid sharding.
        param_dtype: in which weights are gathered and multiplied; None means their own. Gradients are reduced in
            float32, and the shards, which the optimizer changes, keep their own type.
        methods: of ``module`` that use its weights, beside ``forward``.

    Raises:
        ValueError: where nothing in ``module`` trains.
    """
    if isinstance(module, FSDPModule):
        return
    kept = {p for p in module.parameters() if not p.requires_grad or p.ndim == 0}
    if len(kept) == len(set(module.parameters())):
        raise ValueError(f"nothing in {type(module).__name__} can be sharded: all of it is frozen or scalar")
    # inputs are not cast: a timestep of flow matching needs its float32, and autocast casts what it multiplies
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
    """What trains in a sharded module and is not sharded: its scalars, whose gradients the strategy has to average."""
    return [p for p in module.parameters() if p.requires_grad and p.ndim == 0]


def is_sharded(module: nn.Module) -> bool:
    """Whether using the module is a joint act of all processes."""
    return isinstance(module, FSDPModule)


def reshard(module: nn.Module) -> None:
    """Let the parameters be the shards again, which after a forward pass without a backward pass some are not."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor: the same memory, so that what is done to it is done to the tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def placed_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process holds, as the shard of it that ``like`` is; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    whole = value.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
