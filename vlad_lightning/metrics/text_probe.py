"""How much an image generator's first guess of a picture changes with one thing in the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.metrics.per_image import PerImageMetric, Share


def rms_change(before: Tensor, after: Tensor) -> Tensor:
    """Root mean square difference of two predictions, sample by sample.

    Args:
        before: (B, C, h, w) float: the predicted x0 of the prompts.
        after: (B, C, h, w) float: that of the edited prompts, from the same noise.

    Returns:
        (B,) float32, in the unit of x0. Where x0 is in [-1, 1], as pixels and the mini scale's latents are, it lies in
        [0, 2]: 2 is black for white everywhere; one object that covers 2 % of the picture and turns from black to white
        counts 0.28.

    Raises:
        ValueError: if their shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"after has shape {tuple(after.shape)}; it must be that of before, {tuple(before.shape)}")
    return (after.float() - before.float()).square().flatten(1).mean(dim=1).sqrt()


class TextProbeMetric(PerImageMetric):
    """``text_probe_<kind>``: the mean of :func:`rms_change` over the prompts that have such a thing to change.

    A kind that no prompt has is left out.

    Args:
        kinds: of the edits, such as those of ``layout.caption_edits.KINDS``, and of what else is taken away:
            ``all_text`` for the caption, ``tokens_only`` for the pooled vector alone.
        seed: of the bootstrap's random generator.
    """

    def __init__(self, kinds: Sequence[str], seed: int = 0) -> None:
        super().__init__(seed)
        self.kinds = tuple(kinds)
        self.columns = (*self.kinds, *(f"{kind} known" for kind in self.kinds))  # type: ignore[misc]

    def update(self, changes: Tensor, known: Tensor, keys: Sequence[str] = ()) -> None:
        """Keep the changes of B prompts.

        Args:
            changes: (B, K) float, a column for each of ``kinds``.
            known: (B, K) bool: where the prompt has such a thing; the other changes do not count.
            keys: B names, or none.

        Raises:
            ValueError: if one of the two has another shape.
        """
        for name, values in (("changes", changes), ("known", known)):
            if values.shape != (len(changes), len(self.kinds)):
                raise ValueError(f"{name} has shape {tuple(values.shape)}; ({len(changes)}, {len(self.kinds)}) needed")
        self.append(torch.cat([changes.where(known, torch.zeros_like(changes)), known.to(changes)], dim=1), keys)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """That of each kind, under its result's name."""
        return {f"text_probe_{kind}": Share(table[kind], table[f"{kind} known"], most=None) for kind in self.kinds}
