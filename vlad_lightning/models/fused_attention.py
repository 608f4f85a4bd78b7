"""Queries, keys and values of an attention layer by one matrix product in the place of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn

from vlad_lightning.models.joint_attention import MaskedJointAttention
from vlad_lightning.models.sharding import is_sharded

_FUSED = ("to_qkv", "to_kv", "to_added_qkv")


def check_fusable(network: UNet2DConditionModel | SD3Transformer2DModel) -> None:
    """Refuse a network whose projections cannot be fused; one that is fused already can.

    Raises:
        ValueError: where attention layers have adapters, which fusing would leave out, or weights are sharded.
    """
    layers = _attention(network)
    if any(layer.fused_projections for layer in layers):
        return
    if any(type(layer.to_q) is not nn.Linear or type(layer.to_v) is not nn.Linear for layer in layers):
        raise ValueError("fuse_qkv is True; the attention layers have adapters: fold them into the weights first")
    if any(map(is_sharded, network.modules())):
        raise ValueError("fuse_qkv is True; the weights are sharded over the devices: set it to False, or use DDP")


@contextmanager
def fused_qkv(network: UNet2DConditionModel | SD3Transformer2DModel, enabled: bool = True) -> Iterator[None]:
    """Within the context, ``network`` attends by fused projections: its answers differ by rounding only.

    The fused weights are copies that exist within the context only, so checkpoints and folders never hold them.

    Args:
        network: put back as it was at the end; left alone where it is fused already.
        enabled: False does nothing.

    Raises:
        ValueError: see :func:`check_fusable`.
    """
    layers = _attention(network)
    if not enabled or any(layer.fused_projections for layer in layers):
        yield
        return
    check_fusable(network)
    network.fuse_qkv_projections()
    if isinstance(network, SD3Transformer2DModel):
        network.set_attn_processor(MaskedJointAttention())  # diffusers' fused one neither masks nor normalises
    try:
        yield
    finally:
        network.unfuse_qkv_projections()
        for layer in layers:
            layer.fused_projections = False
            for name in _FUSED:
                layer._modules.pop(name, None)


def _attention(network: nn.Module) -> list[Attention]:
    return [layer for layer in network.modules() if isinstance(layer, Attention)]
