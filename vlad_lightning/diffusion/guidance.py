"""Hierarchical guidance with one scale for the text and one for the layout, outside the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Branch(NamedTuple):
    """One evaluation of the network: the conditions that it gets, and its weight."""

    text: bool
    layout: bool
    guidance_weight: float


@dataclass(frozen=True)
class HierarchicalGuidance:
    """Classifier-free guidance (arXiv 2207.12598) along the hierarchy nothing -> layout -> layout and text.

    f = f(0, 0) + layout_scale (f(0, z) - f(0, 0)) + text_scale (f(t, z) - f(0, z)).

    Attributes:
        text_scale: 1 is no guidance by the text, 0 ignores it.
        layout_scale: 1 is no guidance by the layout, 0 ignores it.
    """

    text_scale: float = 1.0
    layout_scale: float = 1.0

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The evaluations whose weight is not zero; the weights sum to 1."""
        every = (
            Branch(True, True, self.text_scale),
            Branch(False, True, self.layout_scale - self.text_scale),
            Branch(False, False, 1 - self.layout_scale),
        )
        return tuple(b for b in every if b.guidance_weight != 0)

    def combine(self, predictions: Sequence[Tensor]) -> Tensor:
        """Return the guided prediction.

        Args:
            predictions: one (B, ...) float per branch, in the order of :attr:`branches`.
        """
        guidance_weights = torch.tensor([b.guidance_weight for b in self.branches], device=predictions[0].device)
        return torch.einsum("k,k...->...", guidance_weights.to(predictions[0].dtype), torch.stack(list(predictions)))
