"""Text probe metric: how much the first guess of an image changes when one thing in the prompt changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlad_lightning.metrics.per_image import PerImageMetric, Share


def rms_change(before: Tensor, after: Tensor) -> Tensor:
    """Compute the root mean square difference of two predictions, sample by sample.

    Args:
        before: (B, C, h, w) float: predicted x0 of the prompts.
        after: (B, C, h, w) float: predicted x0 of the edited prompts, from the same noise.

    Returns:
        (B,) float32, in the unit of x0. If x0 is in [-1, 1], as for pixels and the mini scale's latents, it is in
        [0, 2]: 2 means that black becomes white everywhere; an object that covers 2 % of the image and changes from
        black to white gives 0.28.

    Raises:
        ValueError: if their shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"after has shape {tuple(after.shape)}; it must be that of before, {tuple(before.shape)}")
    return (after.float() - before.float()).square().flatten(1).mean(dim=1).sqrt()


class TextProbeMetric(PerImageMetric):
    """``text_probe_<kind>``: the mean of :func:`rms_change` over the prompts to which the kind of change applies.

    A kind that applies to no prompt is left out.

    Args:
        kinds: kinds of edits, such as ``layout.caption_edits.KINDS``, and kinds of removal: ``all_text`` removes the
            caption, ``tokens_only`` only the pooled vector.
        seed: seed of the bootstrap's random generator.
    """

    def __init__(self, kinds: Sequence[str], seed: int = 0) -> None:
        super().__init__(seed)
        self.kinds = tuple(kinds)
        self.columns = (*self.kinds, *(f"{kind} known" for kind in self.kinds))  # type: ignore[misc]

    def update(self, changes: Tensor, known: Tensor, keys: Sequence[str] = ()) -> None:
        """Keep the changes of B prompts.

        Args:
            changes: (B, K) float, a column for each of ``kinds``.
            known: (B, K) bool: where the kind of change applies to the prompt; other changes do not count.
            keys: B names, or none.

        Raises:
            ValueError: if ``changes`` or ``known`` has another shape.
        """
        for name, values in (("changes", changes), ("known", known)):
            if values.shape != (len(changes), len(self.kinds)):
                raise ValueError(f"{name} has shape {tuple(values.shape)}; ({len(changes)}, {len(self.kinds)}) needed")
        self.append(torch.cat([changes.where(known, torch.zeros_like(changes)), known.to(changes)], dim=1), keys)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the share of each kind, by its result's name."""
        return {f"text_probe_{kind}": Share(table[kind], table[f"{kind} known"], most=None) for kind in self.kinds}
