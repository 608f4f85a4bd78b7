"""Which kernels a GPU may use: fast ones, where the configuration does not ask for exact or repeatable numbers."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch

_REDUCED = ("16", "bf16", "transformer-engine")  # what a reduced precision begins with


def choose_kernels(trainer: MutableMapping[str, Any]) -> None:
    """Let cuDNN search for its fastest convolutions, and matrix products use TensorFloat-32.

    ``trainer.benchmark`` that is given is kept, and so is torch's setting of products under ``trainer.precision:
    32-true``. With ``trainer.deterministic`` nothing is changed: the search does not always find the same kernels.

    Args:
        trainer: the trainer's part of a configuration; ``benchmark`` is filled in.
    """
    if trainer["deterministic"] or not torch.cuda.is_available():
        return
    if trainer["benchmark"] is None:
        trainer["benchmark"] = True
    if str(trainer["precision"]).startswith(_REDUCED):
        torch.set_float32_matmul_precision("high")
