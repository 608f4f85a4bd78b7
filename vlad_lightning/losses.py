"""The losses that are pure functions of embeddings: Eq. 3 of the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    images: Tensor,
    texts: Tensor,
    temperature: Tensor | float,
    all_images: Tensor | None = None,
    all_texts: Tensor | None = None,
    offset: int = 0,
    symmetric: bool = True,
) -> Tensor:
    """L_align (Eq. 3): each pair against the negatives of every rank.

    Args:
        images: (B, D) float, image embeddings of this rank; normalised here.
        texts: (B, D) float, the pooled t of the same pairs.
        temperature: tau > 0; the cosines are divided by it.
        all_images: (W * B, D), the images of every rank in rank order; None means one rank.
        all_texts: (W * B, D), likewise.
        offset: where this rank's pairs start in them.
        symmetric: True averages both directions, as CLIP does; False is Eq. 3 to the letter, in which each text is
            told from the other texts given its image.

    Returns:
        () float, in nats; computed in float32 at least, under autocast too: 1 / tau multiplies every rounding.
    """
    labels = torch.arange(offset, offset + len(images), device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        images, texts = _directions(images), _directions(texts)
        negatives = texts if all_texts is None else _directions(all_texts)
        loss = F.cross_entropy(images @ negatives.T / temperature, labels)
        if not symmetric:
            return loss
        negatives = images if all_images is None else _directions(all_images)
        return (loss + F.cross_entropy(texts @ negatives.T / temperature, labels)) / 2


def retrieval_at_1(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """R@1 of a set of pairs: how often the nearest text of an image is its own, and the other way round.

    Args:
        images: (N, D) float, in any scale.
        texts: (N, D) float.

    Returns:
        (image to text, text to image), each () float in [0, 1].
    """
    similarity = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    labels = torch.arange(len(images), device=images.device)
    return (
        (similarity.argmax(dim=1) == labels).float().mean(),
        (similarity.argmax(dim=0) == labels).float().mean(),
    )


def _directions(rows: Tensor) -> Tensor:
    """(B, D) of length 1, in float32 or better."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
