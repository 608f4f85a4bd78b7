"""L_align inside a LightningModule: Eq. 3 with the negatives of every rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.losses import info_nce, phrase_similarity
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.prompt_encoder import PromptEncoder

_AT_ONCE = 64  # texts that are scored at once


def check_widths(prompts: PromptEncoder, images: ImageEncoder) -> None:
    """Refuse encoders whose embeddings cannot be compared.

    Raises:
        ValueError: naming both widths.
    """
    if images.width != prompts.width:
        raise ValueError(f"the image encoder's width is {images.width}; the text encoder's is {prompts.width}")


def agreement(
    prompts: PromptEncoder,
    images: ImageEncoder,
    pictures: Tensor,
    texts: Sequence[str],
    of: Sequence[int] | None = None,
    local: bool = False,
) -> Tensor:
    """How well texts suit images: the cosine of Eq. 3, and with it how well the image shows what each phrase names.

    Args:
        prompts: encodes the texts.
        images: encodes the pictures.
        pictures: (B, 3, H, W) float in [-1, 1].
        texts: T texts.
        of: which picture each text is about, T numbers in [0, B); None means that T is B, in the same order.
        local: add the mean over phrases of the best patch's cosine, for encoders whose patches were aligned.

    Returns:
        (T,) float32, in [-1, 1], with ``local`` in [-2, 2].
    """
    rows = torch.tensor(list(range(len(texts))) if of is None else of, device=pictures.device)
    seen = images.look(pictures) if local else None
    pooled = images(pictures) if seen is None else seen.pooled
    scores = []
    for some, row in zip(_chunks(texts), rows.split(_AT_ONCE), strict=True):
        said = prompts(some)
        score = F.cosine_similarity(pooled[row].float(), said.pooled.float(), dim=-1)
        if seen is not None:
            patches = seen.patches[row].flatten(1, 2)
            score = score + phrase_similarity(said.phrases[:, 1:], said.phrase_mask[:, 1:], patches)
        scores.append(score)
    return torch.cat(scores) if scores else pooled.new_zeros(0, dtype=torch.float32)


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE)]


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
        temperature: see :func:`~vlad_lightning.losses.info_nce`.
        symmetric: likewise.
        everywhere: False takes the negatives of this batch only: what one process measures in validation, too.
        edited: see :func:`~vlad_lightning.losses.info_nce`; each image's own only, so they are not gathered.
    """
    if not everywhere:
        return info_nce(images, texts, temperature, symmetric=symmetric, edited=edited)
    images, texts = images.float(), texts.float()  # the backward pass of the gathering adds in this type
    every_image, every_text = (gather_rows(module, x, sync_grads=True) for x in (images, texts))
    offset = module.global_rank * len(images)
    return info_nce(images, texts, temperature, every_image, every_text, offset, symmetric, edited)
