"""How a stage is optimised: one frozen dataclass, the same for the three."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diffusers.optimization import SchedulerType, get_scheduler
from torch import nn
from torch.optim import AdamW

_SCHEDULES = tuple(s.value for s in SchedulerType if s is not SchedulerType.PIECEWISE_CONSTANT)  # which needs rules


@dataclass(frozen=True)
class Optimization:
    """AdamW with a warm-up and a schedule over the whole run.

    Attributes:
        lr: the highest learning rate.
        weight_decay: of AdamW; vectors and scalars (norms, biases, gates) are not decayed.
        betas: of AdamW.
        warmup_steps: optimizer steps of linear warm-up.
        schedule: a name diffusers knows: ``constant_with_warmup``, ``cosine``, ``linear``, ...
        fused: the fused kernel; Lightning does not clip gradients with it.

    Raises:
        ValueError: where ``lr`` is not positive, ``warmup_steps`` is negative or ``schedule`` is unknown.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 100
    schedule: str = "cosine"
    fused: bool = False

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}; it must be above 0")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be at least 0")
        if self.schedule not in _SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; allowed are {', '.join(_SCHEDULES)}")

    def configure(self, parameters: Iterable[nn.Parameter], total_steps: float) -> dict[str, Any]:
        """What ``LightningModule.configure_optimizers`` returns.

        Args:
            parameters: those that train; frozen ones are left out.
            total_steps: optimizer steps of the whole run.
        """
        trained = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = AdamW([g for g in groups if g["params"]], lr=self.lr, betas=self.betas, fused=self.fused)
        schedule = get_scheduler(
            self.schedule, optimizer, num_warmup_steps=self.warmup_steps, num_training_steps=int(total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
