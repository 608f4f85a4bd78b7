"""The number formats in which weights are stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""The formats in which weights can be stored, by name."""


def cast_weights(state: Mapping[str, Tensor], dtype: torch.dtype, where: object) -> dict[str, Tensor]:
    """Return a state with its floating-point weights in another format; integers stay as they are.

    Args:
        state: tensors by name.
        dtype: the format.
        where: where the weights are from, for the error.

    Raises:
        ValueError: if a weight is beyond the format's range; naming it.
    """
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    for name, value in state.items():
        if not torch.equal(cast[name].isfinite(), value.isfinite()):
            most = f"{float(value.abs().max()):.3g}"
            raise ValueError(
                f"{where}: {name} has a value of {most}; {dtype} holds at most {torch.finfo(dtype).max:.3g}"
            )
    return cast
