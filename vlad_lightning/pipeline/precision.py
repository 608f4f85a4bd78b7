"""The number format in which a saved pipeline's weights are stored, and the size of its folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vlad_lightning.models.number_format import cast_weights


def store_as(folder: Path, dtype: torch.dtype) -> None:
    """Rewrite the floating-point weights of a saved pipeline in another format; all other files stay as they are.

    The components' JSON keeps float32, in which they are loaded: transformers would load a tower in the format that
    its own JSON names, and diffusers the other parts in float32.

    Raises:
        ValueError: if a weight is beyond the format's range; naming it.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 -- no mapping
            metadata = opened.metadata()
        save_file(cast_weights(state, dtype, file.relative_to(folder)), file, metadata)


def stored_formats(folder: Path) -> list[str]:
    """Return the names of the formats in which a saved pipeline's floating-point weights are stored, sorted."""
    found = set()
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            dtypes = (opened.get_tensor(key).dtype for key in opened.keys())  # noqa: SIM118
            found |= {str(dtype).removeprefix("torch.") for dtype in dtypes if dtype.is_floating_point}
    return sorted(found)


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files in MB of 10^6 bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
