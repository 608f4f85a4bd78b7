"""Attention in the image generators: joint attention (MM-DiT, arXiv 2403.03206) with a mask, and fused projections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from vlad_lightning.models.fsdp import is_sharded

_FUSED = ("to_qkv", "to_kv", "to_added_qkv")


class MaskedJointAttention:
    """A processor of diffusers' ``Attention`` that applies its mask, and supports fused projections.

    diffusers' own processor for Stable Diffusion 3 takes a mask and ignores it. Without a mask the outputs are equal
    bit for bit. Masked token states are keys of no query, and their own outputs are not read.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; diffusers passes the arguments by these names.

        Args:
            attn: the layer's weights.
            hidden_states: (B, N, D) float, the latents' patches.
            encoder_hidden_states: (B, L, D) float, the token states; None in a layer of the patches alone.
            attention_mask: (B, L) bool: the token states that may be attended to; None means all.

        Returns:
            (B, N, D), and (B, L, D) if there are token states.
        """
        own, added = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
        streams = [_projected(attn, hidden_states, "to_qkv", own, (attn.norm_q, attn.norm_k))]
        mask = None
        if encoder_hidden_states is not None:
            norms = attn.norm_added_q, attn.norm_added_k
            streams.append(_projected(attn, encoder_hidden_states, "to_added_qkv", added, norms))
            if attention_mask is not None:
                mask = F.pad(attention_mask, (hidden_states.shape[1], 0), value=True)[:, None, None]  # (B, 1, 1, N + L)
        query, key, value = (torch.cat(parts, dim=2) for parts in zip(*streams, strict=True))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).flatten(2).to(query.dtype)  # (B, N + L, D)
        patches = attn.to_out[1](attn.to_out[0](mixed[:, : hidden_states.shape[1]]))
        if encoder_hidden_states is None:
            return patches
        tokens = mixed[:, hidden_states.shape[1] :]
        return patches, tokens if attn.context_pre_only else attn.to_add_out(tokens)


def read_masks(transformer: SD3Transformer2DModel) -> None:
    """Make every layer attend with :class:`MaskedJointAttention`."""
    if not all(isinstance(processor, MaskedJointAttention) for processor in transformer.attn_processors.values()):
        transformer.set_attn_processor(MaskedJointAttention())


def _projected(
    attn: Attention, states: Tensor, fused: str, names: tuple[str, ...], norms: tuple[nn.Module | None, ...]
) -> list[Tensor]:
    """Compute queries, keys and values of one stream, (B, heads, N, D / heads) each."""
    if attn.fused_projections:
        parts = getattr(attn, fused)(states).chunk(3, dim=-1)
    else:
        parts = tuple(getattr(attn, name)(states) for name in names)
    heads = [part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts]
    return [part if norm is None else norm(part) for part, norm in zip(heads, (*norms, None), strict=True)]


def check_fusable(network: UNet2DConditionModel | SD3Transformer2DModel) -> None:
    """Refuse a network whose projections cannot be fused; accept one that is fused already.

    Raises:
        ValueError: if attention layers have adapters, which fusing would leave out, or weights are sharded.
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
    """Fuse the attention projections of ``network`` within the context: its outputs differ by rounding only.

    The fused weights are copies that exist within the context only, so checkpoints and folders never hold them.

    Args:
        network: restored at the end; unchanged if it is fused already.
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
        network.set_attn_processor(MaskedJointAttention())  # diffusers' fused processor neither masks nor normalises
    try:
        yield
    finally:
        network.unfuse_qkv_projections()
        for layer in layers:
            layer.fused_projections = False
            for name in _FUSED:
                if hasattr(layer, name):
                    delattr(layer, name)


def _attention(network: nn.Module) -> list[Attention]:
    return [layer for layer in network.modules() if isinstance(layer, Attention)]
