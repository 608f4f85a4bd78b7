"""Contrastive losses as pure functions of embeddings: Eq. 3 of the paper, its hard negatives and its local terms.

Everything is computed in float32 at least, also under autocast, because 1 / tau multiplies every rounding error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder

_AT_ONCE = 64  # texts that are scored at once
_SIMILARITIES = 2**24  # that are computed at once: those of 100,000 pairs would take 40 GB


def info_nce(
    images: Tensor,
    texts: Tensor,
    temperature: Tensor | float,
    all_images: Tensor | None = None,
    all_texts: Tensor | None = None,
    offset: int = 0,
    symmetric: bool = True,
    edited: Tensor | None = None,
) -> Tensor:
    """Compute L_align (Eq. 3): each pair against the negatives of every rank.

    Args:
        images: (B, D) float, image embeddings of this rank; normalised here.
        texts: (B, D) float, the pooled t of the same pairs.
        temperature: tau > 0; the cosines are divided by it.
        all_images: (W * B, D), the images of every rank in rank order; None means one rank.
        all_texts: (W * B, D), the texts, likewise.
        offset: index of this rank's first pair in them.
        symmetric: True averages both directions, as CLIP does; False is Eq. 3 to the letter, in which each image is
            distinguished from the other images given its text.
        edited: (B, H, D) float, the pooled t of H texts for each image that are untrue of it: further negatives.

    Returns:
        () float, in nats.

    Raises:
        ValueError: if ``edited`` is given and ``symmetric`` is False.
    """
    if edited is not None and not symmetric:
        raise ValueError("edited texts are negatives in the softmax over texts, which symmetric=False leaves out")
    labels = torch.arange(offset, offset + len(images), device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        images, texts = directions(images), directions(texts)
        negatives = images if all_images is None else directions(all_images)
        loss = F.cross_entropy(texts @ negatives.T / temperature, labels)
        if not symmetric:
            return loss
        negatives = texts if all_texts is None else directions(all_texts)
        cosines = images @ negatives.T
        if edited is not None:
            cosines = torch.cat([cosines, torch.einsum("bd,bhd->bh", images, directions(edited))], dim=1)
        return (loss + F.cross_entropy(cosines / temperature, labels)) / 2


def phrase_similarity(phrases: Tensor, mask: Tensor, patches: Tensor) -> Tensor:
    """Compute how well each image shows the phrases of its text: the mean over phrases of the best patch's cosine.

    The similarity of FILIP (arXiv 2111.07783), from the text's side.

    Args:
        phrases: (B, M, D) float, the composed t_i.
        mask: (B, M) bool: True if there is a phrase.
        patches: (B, G, D) float, of the B images.

    Returns:
        (B,) float in [-1, 1]; 0 for a text without phrases.
    """
    with torch.autocast(phrases.device.type, enabled=False):
        best = (directions(phrases) @ directions(patches).mT).amax(dim=-1)
        return (best * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def phrase_nce(
    phrases: Tensor,
    mask: Tensor,
    patches: Tensor,
    temperature: Tensor | float,
    edited: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Compute Eq. 3 with :func:`phrase_similarity` instead of the cosine, in both directions, within one batch.

    Args:
        phrases: (B, M, D) float, the composed t_i.
        mask: (B, M) bool.
        patches: (B, G, D) float.
        temperature: tau > 0.
        edited: (B, H) float, the similarities of each image to texts that are untrue of it; None means none.
        present: (K, 2) int64, the indices where ``mask`` is True; None computes them, for which the host waits for the
            device.

    Returns:
        () float, in nats.
    """
    labels = torch.arange(len(phrases), device=phrases.device)
    with torch.autocast(phrases.device.type, enabled=False):
        row, slot = (mask.nonzero() if present is None else present).unbind(1)
        each = directions(phrases[row, slot]) @ directions(patches).flatten(0, 1).T  # (K, B * G)
        best = each.view(len(row), len(patches), -1).amax(dim=-1)  # (K, B)
        sums = best.new_zeros(len(phrases), len(patches)).index_add(0, row, best)
        similarity = sums / mask.sum(dim=1, keepdim=True).clamp(min=1)  # (texts, images)
        texts = similarity.T if edited is None else torch.cat([similarity.T, edited], dim=1)
        there = F.cross_entropy(similarity / temperature, labels)
        return (there + F.cross_entropy(texts / temperature, labels)) / 2


def region_nce(
    phrases: Tensor, patches: Tensor, image: Tensor, patch: Tensor, temperature: Tensor | float, edited: Tensor
) -> Tensor:
    """Contrast phrases with the patches that show them, in both directions.

    Given a phrase, the patch at the centre of its box is distinguished from all patches of all images; given that
    patch, the phrase is distinguished from the other phrases of the batch and from edited phrases.

    Args:
        phrases: (K, D) float, the composed phrases whose boxes are known.
        patches: (B, G, D) float.
        image: (K,) int64 in [0, B): the image of each phrase.
        patch: (K,) int64 in [0, G): the patch at the centre of each phrase's box.
        temperature: tau > 0.
        edited: (E, D) float, phrases that are untrue of their images; E may be 0.

    Returns:
        () float, in nats; 0 if no box is known.
    """
    with torch.autocast(phrases.device.type, enabled=False):
        phrases, patches, edited = directions(phrases), directions(patches), directions(edited)
        if not len(phrases):
            return patches.sum() * 0
        where = F.cross_entropy(phrases @ patches.flatten(0, 1).T / temperature, image * patches.shape[1] + patch)
        named = patches[image, patch] @ torch.cat([phrases, edited]).T / temperature
        return (where + F.cross_entropy(named, torch.arange(len(phrases), device=named.device))) / 2


def retrieval_at_1(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Compute R@1 of a set of pairs: how often the nearest text of an image is its own, and the other way round.

    Args:
        images: (N, D) float, in any scale.
        texts: (N, D) float.

    Returns:
        (image to text, text to image), each () float in [0, 1].
    """
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    return _nearest_is_own(images, texts), _nearest_is_own(texts, images)


def _nearest_is_own(rows: Tensor, others: Tensor) -> Tensor:
    """Return how often the most similar one of N others has the row's own number, in memory that grows with N alone."""
    block = max(1, _SIMILARITIES // max(len(others), 1))
    nearest = torch.cat([(part @ others.T).argmax(dim=1) for part in rows.split(block)])
    return (nearest == torch.arange(len(rows), device=rows.device)).float().mean()


def directions(rows: Tensor) -> Tensor:
    """Normalise rows (..., D) to length 1, in float32 or better."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)


def agreement(
    prompts: PromptEncoder,
    images: ImageEncoder,
    pictures: Tensor,
    texts: Sequence[str],
    of: Sequence[int] | None = None,
    local: bool = False,
) -> Tensor:
    """Score how well texts suit images: the cosine of Eq. 3, optionally plus :func:`phrase_similarity`.

    Args:
        prompts: encodes the texts.
        images: encodes the pictures.
        pictures: (B, 3, H, W) float in [-1, 1].
        texts: T texts.
        of: index of each text's picture, T numbers in [0, B); None means that T is B, in the same order.
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
