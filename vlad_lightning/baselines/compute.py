"""The compute of a system: floating-point operations of a training step and of an image, and its parameters.

Operations are counted by torch's formulas, a multiplication and its addition as two: matrix products, convolutions and
attention, in all networks that run, frozen ones too. What has no formula (norms, activations, the rasteriser) is not
counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode

from vlad_lightning.modules.system_module import SystemModule


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters.

    Attributes:
        trained: those that a stage trains.
        whole: those of all networks that run, trained or frozen.
    """

    trained: int
    whole: int


def parameters(module: LightningModule) -> Parameters:
    """Count the parameters of a module; the networks that only measure images do not count."""
    judges = getattr(module, "evaluation", None)
    judging = set() if judges is None else set(judges.parameters())
    own = [value for value in module.parameters() if value not in judging]
    return Parameters(sum(v.numel() for v in own if v.requires_grad), sum(v.numel() for v in own))


def training_flops(module: LightningModule, data: LightningDataModule) -> int:
    """Count the operations of the first training step: forward and backward pass of all networks.

    The module takes one optimizer step, so it must be ready to be trained: its text encoders need tokenizers.
    """
    counted = _CountedStep()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        callbacks=[counted],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return counted.counter.get_total_flops()


def sampling_flops(module: SystemModule, prompts: list[str]) -> float:
    """Count the operations that one image takes, with its layout: the mean over the prompts."""
    was_training = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.draw(prompts)
    module.train(was_training)
    return counter.get_total_flops() / len(prompts)


class _CountedStep(Callback):
    """Counts the operations from the start of a batch to the end of its backward pass."""

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start to count."""
        self.counter.__enter__()

    def on_after_backward(self, *_: Any) -> None:
        """Stop counting."""
        self.counter.__exit__(None, None, None)


def equal_steps(budget: float, spent: float, step: float) -> int:
    """Return for how many steps a stage can run so that a system's training takes a budget of operations.

    Args:
        budget: operations of the whole training, such as VLAD's.
        spent: operations of the system's other stages.
        step: operations of a step of the stage.

    Raises:
        ValueError: if the other stages have spent the budget.

    Example:
        >>> equal_steps(budget=100.0, spent=40.0, step=3.0)
        20
    """
    if spent >= budget:
        raise ValueError(f"budget is {budget:g}; the other stages take {spent:g}")
    return round((budget - spent) / step)
