"""L_align inside a LightningModule: Eq. 3 with the negatives of every rank."""

from __future__ import annotations

from typing import cast

from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.losses import info_nce


def gather_rows(module: LightningModule, rows: Tensor, sync_grads: bool = False) -> Tensor:
    """(B, D) of this rank -> (W * B, D) of every rank, in rank order."""
    return cast(Tensor, module.all_gather(rows, sync_grads=sync_grads)).flatten(0, -2)


def align(
    module: LightningModule, images: Tensor, texts: Tensor, temperature: Tensor | float, symmetric: bool = True
) -> Tensor:
    """L_align (Eq. 3) of this rank's pairs against the negatives of every rank.

    Args:
        module: knows the ranks.
        images: (B, D) float.
        texts: (B, D) float.
        temperature: see :func:`~vlad_lightning.losses.info_nce`.
        symmetric: likewise.
    """
    images, texts = images.float(), texts.float()
    every_image, every_text = (gather_rows(module, x, sync_grads=True) for x in (images, texts))
    offset = module.global_rank * len(images)
    return info_nce(images, texts, temperature, every_image, every_text, offset, symmetric)
