"""Scaled dot-product attention for a CPU, as plain products.

On a CPU torch's flash kernel has a slow backward pass, and its plain kernel (``_scaled_dot_product_attention_math``)
spends most of its time beside the products: it scales query and key apart and looks through all scores for rows in
which nothing may be attended to. :func:`plain_attention` looks for such rows in the mask, which is smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attend, as ``torch.nn.functional.scaled_dot_product_attention`` does, which documents the arguments.

    Args:
        query: (..., L, E) float.
        key: (..., S, E) float.
        value: (..., S, V) float.
        attn_mask: bool, True where a query may attend, or float, added to the scores; broadcast to (..., L, S). A query
            that may attend to nothing gets zeros.
        dropout_p: with dropout, torch's own kernel is used.
        is_causal: whether query i attends to keys 0 to i only.
        scale: of the scores; None is 1 / sqrt(E).
        enable_gqa: with fewer heads of keys than of queries, torch's own kernel is used.

    Returns:
        (..., L, V) in the query's dtype.
    """
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    if dropout_p or enable_gqa:
        return torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]
    if is_causal:
        attn_mask = query.new_full((query.shape[-2], key.shape[-2]), -torch.inf).triu(1)
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if attn_mask is None:
        return scores.softmax(-1) @ value
    bias = attn_mask.to(scores.dtype).clamp(min=torch.finfo(scores.dtype).min)  # no row is minus infinity throughout
    mixed = (scores + bias).softmax(-1) @ value
    return mixed.where((attn_mask > -torch.inf).any(-1, keepdim=True), 0.0)


@contextmanager
def plain_attention_on_cpu() -> Iterator[None]:
    """Let torch use :func:`plain_attention` on the CPU meanwhile, in the whole process, whoever calls for attention."""
    library = torch.library.Library("aten", "IMPL")
    for dispatch_key in ("CPU", "AutogradCPU"):
        library.impl("scaled_dot_product_attention", plain_attention, dispatch_key, allow_override=True)
    try:
        yield
    finally:
        del library  # torch takes the kernels back with it
