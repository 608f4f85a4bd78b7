"""Queries, keys and values of an attention layer by one matrix product in the place of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn

_FUSED = ("to_qkv", "to_kv", "to_added_qkv")


@contextmanager
def fused_qkv(network: UNet2DConditionModel | SD3Transformer2DModel, enabled: bool = True) -> Iterator[None]:
    """Within the context, ``network`` attends by fused projections: its answers differ by rounding only.

    The fused weights are copies that exist within the context only, so checkpoints and folders never hold them.

    Args:
        network: put back as it was at the end; left alone where it is fused already.
        enabled: False does nothing.

    Raises:
        ValueError: where attention layers have adapters, which fusing would leave out.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Attention)]
    if not enabled or any(layer.fused_projections for layer in layers):
        yield
        return
    if any(type(layer.to_q) is not nn.Linear or type(layer.to_v) is not nn.Linear for layer in layers):
        raise ValueError("fuse_qkv is True; the attention layers have adapters: fold them into the weights first")
    network.fuse_qkv_projections()
    try:
        yield
    finally:
        network.unfuse_qkv_projections()
        for layer in layers:
            layer.fused_projections = False
            for name in _FUSED:
                layer._modules.pop(name, None)
