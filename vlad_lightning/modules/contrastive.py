"""L_align inside a LightningModule: Eq. 3 with the negatives of all ranks."""

from __future__ import annotations

from typing import cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.models.contrastive import info_nce
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder

TEMPERATURE = 0.07
"""The default of tau in Eq. 8's L_align."""


def check_widths(prompts: PromptEncoder, images: ImageEncoder) -> None:
    """Refuse encoders whose embeddings cannot be compared.

    Raises:
        ValueError: naming both widths.
    """
    if images.width != prompts.width:
        raise ValueError(f"the image encoder's width is {images.width}; the text encoder's is {prompts.width}")


def check_alignment(prompts: PromptEncoder, images: ImageEncoder | None, temperature: float) -> None:
    """Refuse arguments with which L_align cannot be computed, or that have no effect without it.

    Args:
        prompts: the prompt encoder.
        images: the image encoder; None leaves L_align out.
        temperature: tau of L_align.

    Raises:
        ValueError: naming the argument.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    if images is not None:
        check_widths(prompts, images)
    elif temperature != TEMPERATURE:
        raise ValueError(f"temperature is {temperature}; it has no effect without an image_encoder: leave it out")


def gather_rows(module: LightningModule, rows: Tensor, sync_grads: bool = False) -> Tensor:
    """Gather this rank's rows (B, D) with those of all ranks: (W * B, D), in rank order."""
    return cast(Tensor, module.all_gather(rows, sync_grads=sync_grads)).flatten(0, -2)


def gather_uneven(module: LightningModule, rows: Tensor) -> Tensor:
    """Gather this rank's rows (B, D) with those of all ranks, in rank order; B may differ between ranks."""
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
    """Return L_align (Eq. 3) of this rank's pairs against the negatives of all ranks.

    In training, the mean over ranks equals the loss of one process with all pairs, and so do the gradients that DDP
    averages: the backward pass of the gather adds the gradients of every rank's loss for this rank's rows.

    Args:
        module: provides the rank and the gather.
        images: (B, D) float, image embeddings.
        texts: (B, D) float, text embeddings.
        temperature: see :func:`~vlad_lightning.models.contrastive.info_nce`.
        symmetric: see :func:`~vlad_lightning.models.contrastive.info_nce`.
        everywhere: False takes negatives from this batch only, so that validation measures the same as one process.
        edited: see :func:`~vlad_lightning.models.contrastive.info_nce`; not gathered, since each image is compared with
            its own edits only.
    """
    if not everywhere:
        return info_nce(images, texts, temperature, symmetric=symmetric, edited=edited)
    images, texts = images.float(), texts.float()  # the gather's backward pass sums in this dtype
    every_image, every_text = (gather_rows(module, x, sync_grads=True) for x in (images, texts))
    offset = module.global_rank * len(images)
    return info_nce(images, texts, temperature, every_image, every_text, offset, symmetric, edited)
