"""L_align inside a LightningModule: Eq. 3 with the negatives of every rank."""

from __future__ import annotations

from typing import cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.models.contrastive import info_nce
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder


def check_widths(prompts: PromptEncoder, images: ImageEncoder) -> None:
    """Refuse encoders whose embeddings cannot be compared.

    Raises:
        ValueError: naming both widths.
    """
    if images.width != prompts.width:
        raise ValueError(f"the image encoder's width is {images.width}; the text encoder's is {prompts.width}")


def gather_rows(module: LightningModule, rows: Tensor, sync_grads: bool = False) -> Tensor:
    """(B, D) of this rank -> (W * B, D) of every rank, in rank order."""
    return cast(Tensor, module.all_gather(rows, sync_grads=sync_grads)).flatten(0, -2)


def gather_uneven(module: LightningModule, rows: Tensor) -> Tensor:
    """(B, D) of this rank -> every rank's rows, in rank order; the ranks may have different B."""
    sizes = cast(Tensor, module.all_gather(torch.tensor([len(rows)], device=rows.device))).flatten().tolist()
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), rows.shape[1])])
    parts = gather_rows(module, padded).split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def align(
    module: LightningModule,
    images: Tensor,
    texts: Tensor,
    temperature: Tensor | float,
    symmetric: bool = True,
    everywhere: bool = True,
    edited: Tensor | None = None,
) -> Tensor:
    """L_align (Eq. 3) of this rank's pairs against the negatives of every rank.

    In training, the mean over ranks is the loss of one process with all the pairs, and so are the gradients that DDP
    averages: the gathering's backward pass adds what every rank's loss says of this rank's rows.

    Args:
        module: knows the ranks.
        images: (B, D) float.
        texts: (B, D) float.
        temperature: see :func:`~vlad_lightning.models.contrastive.info_nce`.
        symmetric: likewise.
        everywhere: False takes the negatives of this batch only: what one process measures in validation, too.
        edited: see :func:`~vlad_lightning.models.contrastive.info_nce`; each image's own only, so they are not
            gathered.
    """
    if not everywhere:
        return info_nce(images, texts, temperature, symmetric=symmetric, edited=edited)
    images, texts = images.float(), texts.float()  # the backward pass of the gathering adds in this type
    every_image, every_text = (gather_rows(module, x, sync_grads=True) for x in (images, texts))
    offset = module.global_rank * len(images)
    return info_nce(images, texts, temperature, every_image, every_text, offset, symmetric, edited)
