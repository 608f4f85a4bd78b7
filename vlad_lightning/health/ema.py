"""An exponential moving average of the trained weights, kept outside the module."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vlad_lightning.health.step_guard import skips_step
from vlad_lightning.lightning_internals import copy_
from vlad_lightning.models.fsdp import local, reshard

_TRAINED, _AVERAGING = "current_model_state", "averaging_state"  # the keys of Lightning's EMAWeightAveraging


class EMA(Callback):
    """The average of the trained weights: ``mean = decay * mean + (1 - decay) * weight`` after each optimizer step.

    Only parameters that require a gradient when the fit starts are copied: frozen encoders, an autoencoder or metrics
    cost nothing. The average replaces the weights in the module during each validation and when training ends. A
    checkpoint holds the averaged weights as ``state_dict``, which test, export and
    :class:`~vlad_lightning.callbacks.InitFrom` read, and the trained weights as ``current_model_state``, from which a
    fit resumes. The format is that of Lightning's ``EMAWeightAveraging(use_buffers=False)``, whose checkpoints can be
    resumed too. The averages of trained weights are those of torch's ``get_ema_multi_avg_fn`` bit for bit: it reads a
    weight once, and rounds otherwise than Lightning's three passes.

    Each rank keeps its own average; under DDP they are equal, as the weights are. If a strategy shards the weights, the
    average is sharded in the same way.

    Args:
        decay: the share of the average that a step keeps, in [0, 1).
        warmup: keep min(decay, (1 + n) / (10 + n)) after n updates, so that the first weights do not dominate the
            average of a short fit; False is Lightning's average.

    Raises:
        ValueError: if ``decay`` is out of its range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = False) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie in [0, 1)")
        self.decay, self.warmup = decay, warmup
        self.updates = 0
        self._latest_step = 0
        self._other: dict[str, Tensor] = {}  # the average; while the module holds it, the trained weights
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit's average."""
        if stage == "fit":
            self._other, self._swapped, self.updates, self._latest_step = {}, False, 0, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the average, or continue a checkpoint's, on the device of the weights."""
        trained = {k: p.detach() for k, p in pl_module.named_parameters() if p.requires_grad}
        # Lightning's callback copies the weights before the strategy moves the module, so its average stays on the CPU
        self._other = {k: self._other.get(k, p).to(p.device, copy=True) for k, p in trained.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average once per optimizer step."""
        if trainer.global_step <= self._latest_step or skips_step(trainer):  # accumulating, or no step was taken
            return
        means = [local(mean) for mean in self._other.values()]
        weights = [local(pl_module.get_parameter(k).detach()) for k in self._other]
        if self.updates == 0:
            copy_(means, weights)
        elif means:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
            get_ema_multi_avg_fn(decay)(means, weights, self.updates)
        self.updates += 1
        self._latest_step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module for validation."""
        self._swap(trainer, pl_module, swapped=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._swap(trainer, pl_module, swapped=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back if a validation failed."""
        self._swap(trainer, pl_module, swapped=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._swap(trainer, pl_module, swapped=True)

    def trained(self, name: str, standing: Tensor) -> Tensor:
        """Return the trained value of a parameter, even while the module holds its average.

        Args:
            name: the parameter's name.
            standing: the value that the module holds.
        """
        return self._other.get(name, standing) if self._swapped else standing

    @torch.no_grad()
    def _swap(self, trainer: Trainer, pl_module: LightningModule, swapped: bool) -> None:
        """Swap the module's values with the other ones, in place because DDP and the optimizer hold the tensors."""
        if trainer.state.fn != TrainerFn.FITTING or swapped == self._swapped:
            return
        reshard(pl_module)
        for name, other in self._other.items():
            weight, average = local(pl_module.get_parameter(name).detach()), local(other)
            before = weight.clone()
            weight.copy_(average)
            average.copy_(before)
        self._swapped = swapped

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the latest update."""
        return {"latest_update_step": self._latest_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step of the latest update."""
        self._latest_step = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put trained and averaged weights into the checkpoint; tensors that are not averaged are shared by both."""
        if not self._other:  # outside a fit: the module's weights are the average, if there is any
            return
        names = {p: k for k, p in pl_module.named_parameters() if k in self._other}
        every = pl_module.named_parameters(remove_duplicate=False)  # a state dict has tied weights under each name
        present = checkpoint["state_dict"]
        exchanged = present | {k: self._other[names[p]] for k, p in every if p in names}
        trained, averaged = (exchanged, present) if self._swapped else (present, exchanged)
        checkpoint |= {
            "state_dict": averaged,
            _TRAINED: trained,
            _AVERAGING: {"n_averaged": torch.tensor(self.updates)},
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume both; without an average in the checkpoint, the average starts from its weights."""
        if trainer.state.fn != TrainerFn.FITTING or _TRAINED not in checkpoint:
            return
        averaged = checkpoint["state_dict"]
        trained = {k: p for k, p in pl_module.named_parameters() if p.requires_grad and k in averaged}
        self._other = {k: averaged[k].to(p.device, copy=True) for k, p in trained.items()}
        self.updates = int(checkpoint[_AVERAGING]["n_averaged"])
        pl_module.load_state_dict(checkpoint[_TRAINED])  # Lightning has loaded the average by now
