"""Hierarchical guidance with one scale for the text and one for the layout, outside the network.

Two options tame large scales: guidance in an interval of the noise time, and rescaled guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ALWAYS = (0.0, 1.0)
"""The interval of guidance at every step."""


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
        interval: (low, high) of the noise time t / T, of which 1 is pure noise
            (:func:`~vlad_lightning.diffusion.objective.noise_time`). Both scales act where low < t / T <= high;
            elsewhere both are 1 (arXiv 2404.07724), so that the network is evaluated once.
        rescale: phi of arXiv 2305.08891, section 3.4, see :meth:`combine`; 0 leaves the prediction as it is.
    """

    text_scale: float = 1.0
    layout_scale: float = 1.0
    interval: tuple[float, float] = ALWAYS
    rescale: float = 0.0

    def at(self, time: float) -> HierarchicalGuidance:
        """Return the guidance at a noise time in (0, 1]: this one within the interval, none outside."""
        low, high = self.interval
        return self if low < time <= high else HierarchicalGuidance()

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The evaluations whose weight is not zero; the weights sum to 1."""
        every = (
            Branch(True, True, self.text_scale),
            Branch(False, True, self.layout_scale - self.text_scale),
            Branch(False, False, 1 - self.layout_scale),
        )
        return tuple(b for b in every if b.guidance_weight != 0)

    def combine(self, predictions: Sequence[Tensor], drawn: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """Return the guided prediction f.

        With ``rescale`` it is f (phi std(f(t, z)) / std(f) + 1 - phi), the deviations over each sample: guidance then
        widens the range of the prediction less, or at phi = 1 not at all. Where the layout says what is drawn, only
        that is measured and rescaled. The ground is left as it is guided: a white ground times a factor below 1 is
        grey, and unevenness that guidance had pushed beyond the range of the pixels is seen again; counted in the
        deviations, it would make letters and objects on it dull. Rescaling needs a prediction whose deviation is that
        of the data, see :func:`~vlad_lightning.diffusion.objective.check_rescale`, and f(t, z) among the predictions,
        so ``text_scale`` is not 0.

        Args:
            predictions: one (B, C, ...) float per branch, in the order of :attr:`branches`.
            drawn: (B, ...) bool: where letters and objects are; None rescales all.
            told: (B, ...) bool: where f(t, z) is returned as it is, because z says all that there is to be seen, and
                guidance would exaggerate it; without f(t, z) among the predictions it has no effect. None is nowhere.
        """
        guidance_weights = torch.tensor([b.guidance_weight for b in self.branches], device=predictions[0].device)
        guided = torch.einsum("k,k...->...", guidance_weights.to(predictions[0].dtype), torch.stack(list(predictions)))
        if self.rescale > 0:
            guided = self._rescaled(guided, predictions[0], drawn)
        if told is None or self.text_scale == 0:
            return guided
        return torch.where(told.unsqueeze(1), predictions[0], guided)

    def _rescaled(self, guided: Tensor, full: Tensor, drawn: Tensor | None) -> Tensor:
        """Rescale the guided prediction by the deviation of f(t, z), where something is drawn."""
        conditional, own = _deviation(full, drawn), _deviation(guided, drawn)
        # a constant prediction has no deviation to keep, and 0 / 0 would be nan
        ratio = conditional / own.clamp(min=torch.finfo(own.dtype).tiny)
        rescaled = guided * (self.rescale * ratio + 1 - self.rescale)
        return rescaled if drawn is None else torch.where(drawn.unsqueeze(1), rescaled, guided)


def _deviation(prediction: Tensor, where: Tensor | None) -> Tensor:
    """Compute the deviation of each sample of (B, C, ...) at the positions ``where`` (B, ...), as (B, 1, ...)."""
    dims = tuple(range(1, prediction.ndim))
    if where is None:
        return prediction.std(dim=dims, keepdim=True)
    weight = where.unsqueeze(1).expand_as(prediction).to(prediction)
    count = weight.sum(dim=dims, keepdim=True).clamp(min=1)
    mean = (prediction * weight).sum(dim=dims, keepdim=True) / count
    return (((prediction - mean).square() * weight).sum(dim=dims, keepdim=True) / count).sqrt()
