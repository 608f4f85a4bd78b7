"""Which kernel attends on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def quick_backward(device: torch.device) -> AbstractContextManager[None]:
    """A context for a forward pass after which the backward pass is quick on a CPU under autocast.

    There the backward pass of torch's fused attention takes several times as long in a half precision as the products
    written out (docs/decisions/0008-alignment.md). Elsewhere the context does nothing.

    Args:
        device: where the tensors are.
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()
