"""LoRA (Eq. 10) with peft: adapters are added to a network in place, and folded back into plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from vlad_lightning.models.painter.widened import joined, parted

_BASE = ".base_layer."
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class Lora:
    """W + (alpha / rank) B A, with B starting at zero (Eq. 10).

    Attributes:
        rank: r, at least 1.
        alpha: the numerator of the scale.
        targets: endings of the names of the linear layers that get an adapter; None means the usual ones for the
            family of the network.

    Raises:
        ValueError: if ``rank``, ``alpha`` or ``targets`` allow no adapter.
    """

    rank: int = 8
    alpha: int = 8
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be at least 1")
        if self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; it must be at least 1: adapters times 0 do nothing")
        if self.targets is not None and not self.targets:
            raise ValueError("targets is empty; it must name the layers that get an adapter")

    @property
    def scale(self) -> float:
        """Alpha / rank."""
        return self.alpha / self.rank

    def config(self, usual: tuple[str, ...]) -> LoraConfig:
        """Return these settings for peft; if ``targets`` is None, ``usual`` are the targets."""
        targets = list(self.targets or usual)
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=targets, lora_dropout=0.0, bias="none")

    def inject(self, network: nn.Module, usual: tuple[str, ...] = ("q_proj", "v_proj")) -> None:
        """Add the adapters in place and freeze everything else in ``network``; see :meth:`config` for ``usual``."""
        inject_adapter_in_model(self.config(usual), network)


def fold(state: Mapping[str, Tensor], scale: float | Mapping[str, float]) -> dict[str, Tensor]:
    """Fold the adapters and further columns of a state into plain weights; return a plain state unchanged.

    Args:
        state: a network's ``state_dict``.
        scale: alpha / rank of its adapters; if its parts differ, a mapping from the dotted names of the parts.

    Raises:
        ValueError: if an adapter is in a part without a scale.
    """
    plain = {k.replace(_BASE, "."): v for k, v in state.items() if not k.endswith((_A, _B))}
    for name in (k.removesuffix(_A) for k in state if k.endswith(_A)):
        weight = state[f"{name}{_BASE}weight"]
        delta = state[name + _B].float() @ state[name + _A].float()
        plain[f"{name}.weight"] = (weight.float() + _scale_of(name, scale) * delta).to(weight.dtype)
    return joined(plain)


def _scale_of(name: str, scale: float | Mapping[str, float]) -> float:
    if not isinstance(scale, Mapping):
        return scale
    for part, value in scale.items():
        if not part or name.startswith(part + "."):
            return value
    raise ValueError(f"the adapter of {name!r} has no scale; there are those of {sorted(scale)}")


def load_plain(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load plain weights strictly into a network that may have adapters or further columns.

    Adapters keep their initial B = 0, and so do further columns (:mod:`~vlad_lightning.models.painter.widened`) that
    the plain weights do not have.

    Raises:
        RuntimeError: if names or shapes differ, as in ``load_state_dict``.
    """
    own = network.state_dict()
    wanted = {k.replace(_BASE, "."): k for k in own if not k.endswith((_A, _B))}
    adapters = {k: v for k, v in own.items() if k.endswith((_A, _B))}
    named = {wanted.get(k, k): v for k, v in parted(state, own).items()}
    network.load_state_dict(named | adapters, strict=True)
