"""Settings of the optimizer and its learning-rate schedule, the same dataclass for all stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import torch
from diffusers.optimization import SchedulerType, get_scheduler
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vlad_lightning.lightning_internals import scale_outside
from vlad_lightning.limits import check_idle
from vlad_lightning.types import Batch

_ENDLESS = (SchedulerType.CONSTANT.value, SchedulerType.CONSTANT_WITH_WARMUP.value)
_SCHEDULES = tuple(s.value for s in SchedulerType if s is not SchedulerType.PIECEWISE_CONSTANT)  # which needs rules
LRScaling = Literal["none", "linear", "sqrt"]


@dataclass(frozen=True)
class Optimization:
    """An optimizer, AdamW unless another is given, with a warm-up and a schedule over the whole run.

    A step is an optimizer step on one *global batch*: samples per device, times devices, times accumulated batches.
    Settings in samples are divided by it and rounded up to steps, so they mean the same on any number of devices.

    A resumed fit uses the settings of its own configuration; it takes only the moments and the step from a checkpoint.

    Attributes:
        lr: the highest learning rate, before ``lr_scaling``.
        weight_decay: weight decay of the optimizer; vectors and scalars (norms, biases) are not decayed.
        betas: betas of AdamW.
        warmup_steps: steps of linear warm-up.
        schedule: a schedule's name in diffusers: ``constant_with_warmup``, ``cosine``, ``linear``, ...
        fused: True uses AdamW's fused kernel, False lets torch choose among the others. None is True on a CPU, where it
            takes a third of the time for the same numbers, and False elsewhere.
        warmup_samples: samples of linear warm-up, instead of ``warmup_steps``.
        horizon_samples: samples after which the schedule ends; None means the end of the run.
        lr_batch: the global batch for which ``lr`` is stated; ``lr_scaling`` needs it.
        lr_scaling: how ``lr`` changes with the global batch: ``none``; ``linear``, times batch / lr_batch (Goyal et
            al., arXiv 1706.02677); ``sqrt``, times the root of that, which suits Adam (Malladi et al., 2205.10287).
        encoder_lr: the highest learning rate of the prompt encoder, in stages that train it beside something else; it
            is scaled and scheduled like ``lr``. None means ``lr``.
        map_lr: the same for stage 2's phrase map, a small network that takes larger steps than an image generator.
        optimizer: builds the optimizer from parameter groups, such as ``class_path: torch.optim.Adafactor`` in YAML;
            any class with the interface of ``torch.optim``, so also those of other packages. Learning rates and weight
            decay are those of this class. None is AdamW.

    Raises:
        ValueError: where a number is out of its range, a name is unknown, or a setting has no effect with the others.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 100
    schedule: str = "cosine"
    fused: bool | None = None
    warmup_samples: int | None = None
    horizon_samples: int | None = None
    lr_batch: int | None = None
    lr_scaling: LRScaling = "none"
    encoder_lr: float | None = None
    map_lr: float | None = None
    optimizer: OptimizerCallable | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "encoder_lr", "map_lr"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < math.inf:
                raise ValueError(f"{name} is {rate}; it must be above 0")
        for name, least in (("warmup_steps", 0), ("warmup_samples", 0), ("horizon_samples", 1), ("lr_batch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        for name, allowed in (("schedule", _SCHEDULES), ("lr_scaling", get_args(LRScaling))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        if self.lr_scaling != "none" and self.lr_batch is None:
            raise ValueError(
                f"lr_scaling is {self.lr_scaling!r}; lr_batch must say for which global batch lr is stated"
            )
        self._check_idle()

    def _check_idle(self) -> None:
        if self.lr_scaling == "none":
            check_idle(self, ["lr_batch"], "lr is not scaled: lr_scaling is 'none'")
        if self.schedule == SchedulerType.CONSTANT.value:
            check_idle(self, ["warmup_steps", "warmup_samples"], "schedule 'constant' has no warm-up")
        if self.optimizer is not None:
            check_idle(self, ["betas", "fused"], "they are AdamW's, and optimizer is another")

    def of_module(
        self, module: LightningModule, encoder: nn.Module | None = None, phrase_map: nn.Module | None = None
    ) -> dict[str, Any]:
        """Call :meth:`configure` with a module's parameters and the length of its trainer's run.

        Args:
            module: the module that is trained.
            encoder: the part of it that learns at ``encoder_lr``.
            phrase_map: the part of it that learns at ``map_lr``.
        """
        counted = self.warmup_samples is not None or self.horizon_samples is not None or self.lr_scaling != "none"
        batch = global_batch(module.trainer) if counted else None
        apart = (None if part is None else part.parameters() for part in (encoder, phrase_map))
        return self.configure(module.parameters(), module.trainer.estimated_stepping_batches, batch, *apart)

    def configure(
        self,
        parameters: Iterable[nn.Parameter],
        total_steps: float,
        batch: int | None = None,
        encoder: Iterable[nn.Parameter] | None = None,
        phrase_map: Iterable[nn.Parameter] | None = None,
    ) -> dict[str, Any]:
        """Build the optimizer and the schedule that ``LightningModule.configure_optimizers`` returns.

        Args:
            parameters: the parameters to train; frozen ones are left out.
            total_steps: optimizer steps of the whole run.
            batch: the global batch; only settings in samples and ``lr_scaling`` need it.
            encoder: those of ``parameters`` that learn at ``encoder_lr``, in separate groups after the others if it is
                set.
            phrase_map: the same for ``map_lr``.

        Raises:
            ValueError: where ``batch`` is needed and None, ``encoder_lr`` is set and ``encoder`` None, ``map_lr`` is
                set and ``phrase_map`` None, the run outlasts ``horizon_samples``, or it has no end and ``schedule``
                needs one.
        """
        apart = {"encoder_lr": ("encoder", encoder), "map_lr": ("phrase map", phrase_map)}
        trained = [p for p in parameters if p.requires_grad]
        kernel = self._kernel(trained)
        lr = self._scaled(self.lr, batch)
        optimizer = self._built(self._groups(trained, batch, apart), lr, kernel)
        if kernel:
            scale_outside(optimizer)  # so that Lightning can clip before the step
        optimizer.register_load_state_dict_pre_hook(_with_own_settings)
        curve = get_scheduler(
            self.schedule,
            AdamW([nn.Parameter(torch.zeros(0))], lr=lr),  # a schedule changes the optimizer that it is made for
            num_warmup_steps=self._warmup(batch),
            num_training_steps=self._horizon(total_steps, batch),
        )
        schedule = _OwnRates(optimizer, curve.lr_lambdas[0])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _built(self, groups: list[dict[str, Any]], lr: float, fused: bool | None) -> Optimizer:
        """Build the optimizer; every group gets its learning rate, so that an own one of the class has no effect."""
        if self.optimizer is None:
            return AdamW(groups, lr=lr, betas=self.betas, fused=fused)
        optimizer = self.optimizer([{"lr": lr} | group for group in groups])
        if "weight_decay" not in optimizer.defaults and self.weight_decay != 0:
            raise ValueError(
                f"weight_decay is {self.weight_decay}; it must be 0 for {type(optimizer).__name__}, which has none"
            )
        return optimizer

    def _groups(
        self,
        trained: list[nn.Parameter],
        batch: int | None,
        apart: Mapping[str, tuple[str, Iterable[nn.Parameter] | None]],
    ) -> list[dict[str, Any]]:
        """Return AdamW's groups, decayed and not decayed, separately for each part with its own learning rate."""
        groups: list[dict[str, Any]] = []
        for name, (part, parameters) in apart.items():
            rate = getattr(self, name)
            if rate is None:
                continue
            if parameters is None:
                raise ValueError(f"{name} is {rate}; it must be None: this stage has no separate {part}")
            own = set(parameters)
            lr = self._scaled(rate, batch)
            groups += [group | {"lr": lr} for group in self._by_decay([p for p in trained if p in own])]
            trained = [p for p in trained if p not in own]
        return self._by_decay(trained) + groups

    def _by_decay(self, trained: list[nn.Parameter]) -> list[dict[str, Any]]:
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def _kernel(self, trained: Sequence[nn.Parameter]) -> bool | None:
        """Return AdamW's ``fused``: None lets torch choose (foreach on a GPU); False would force the for-loop."""
        if self.fused is not None or self.optimizer is not None:
            return self.fused or None
        # shards are left to torch: their subclass is a DTensor
        plain = all(type(p) is nn.Parameter and p.device.type == "cpu" and p.is_floating_point() for p in trained)
        return plain or None

    def _scaled(self, lr: float, batch: int | None) -> float:
        if self.lr_scaling == "none" or self.lr_batch is None:
            return lr
        ratio = _needed(batch, "lr_scaling") / self.lr_batch
        return lr * (ratio if self.lr_scaling == "linear" else math.sqrt(ratio))

    def _warmup(self, batch: int | None) -> int:
        if self.warmup_samples is None:
            return self.warmup_steps
        return math.ceil(self.warmup_samples / _needed(batch, "warmup_samples"))

    def _horizon(self, total_steps: float, batch: int | None) -> int | None:
        """Return the steps after which the schedule ends; None if it has no end."""
        if self.horizon_samples is None:
            if math.isinf(total_steps) and self.schedule not in _ENDLESS:
                raise ValueError(
                    f"schedule is {self.schedule!r} and the run has no end; set trainer.max_steps or max_epochs, or "
                    f"take {' or '.join(_ENDLESS)}"
                )
            return None if math.isinf(total_steps) else int(total_steps)
        steps = math.ceil(self.horizon_samples / _needed(batch, "horizon_samples"))
        if total_steps > steps:
            raise ValueError(
                f"horizon_samples is {self.horizon_samples}: {steps} steps of {batch} samples; "
                f"the run has {'no end' if math.isinf(total_steps) else total_steps}"
            )
        return steps


class _OwnRates(LambdaLR):
    """A schedule that keeps its own learning rates when a checkpoint's state is loaded.

    torch stores the base rates in the schedule's state and the current ones in the optimizer's.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the step of a state, and set this schedule's rates at that step."""
        super().load_state_dict(state_dict | {"base_lrs": self.base_lrs})
        self._last_lr = [rate * of(self.last_epoch) for rate, of in zip(self.base_lrs, self.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def _with_own_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's state with this optimizer's settings; torch would take the checkpoint's settings.

    Raises:
        ValueError: where the checkpoint's parameter groups have other sizes.
    """
    saved, own = state["param_groups"], optimizer.param_groups
    sizes = [[len(group["params"]) for group in groups] for groups in (saved, own)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the checkpoint's optimizer has groups of {sizes[0]} weights, this config's of {sizes[1]}; encoder_lr and "
            "map_lr must be None in both or in neither, and the parameters that train must be the same"
        )
    groups = [group | {"params": of["params"]} for group, of in zip(own, saved, strict=True)]
    return state | {"param_groups": groups}


@runtime_checkable
class MeasuresNorm(Protocol):
    """A callback that measures the norm of all gradients before each optimizer step."""

    def measured_norm(self) -> Tensor | None:
        """Return the norm of the gradients about to be applied, () float; None if it was not measured."""


def clip_by_measured_norm(
    self: LightningModule,
    optimizer: Optimizer,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: str | None = None,
) -> None:
    """Clip the gradients as Lightning does, without computing their norm again where a callback has measured it.

    A module has it as its ``configure_gradient_clipping``.

    Args:
        self: the module.
        optimizer: its optimizer.
        gradient_clip_val: see ``Trainer``; None does not clip.
        gradient_clip_algorithm: likewise; None is ``norm``.
    """
    callbacks: list[Any] = cast(Any, self.trainer).callbacks  # mypy does not see this attribute
    norms = (callback.measured_norm() for callback in callbacks if isinstance(callback, MeasuresNorm))
    norm = next((found for found in norms if found is not None), None)
    if norm is None or not gradient_clip_val or gradient_clip_algorithm not in (None, GradClipAlgorithmType.NORM):
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    torch.nn.utils.clip_grads_with_norm_(weights, gradient_clip_val, norm)


def global_batch(trainer: Trainer) -> int | None:
    """Return the samples per optimizer step: a device's batch, times devices, times accumulated batches.

    None if the loader has no ``batch_size``.
    """
    trainer.fit_loop.setup_data()
    loader: Any = trainer.train_dataloader
    sizes = (getattr(of, "batch_size", None) for of in (loader, getattr(loader, "batch_sampler", None)))
    size = next((s for s in sizes if s is not None), None)
    return None if size is None else int(size) * trainer.world_size * trainer.accumulate_grad_batches


def _needed(batch: int | None, name: str) -> int:
    if batch is None:
        raise ValueError(f"{name} needs the batch size; the training data loader has no batch_size")
    return batch


def logged_batch_size(module: LightningModule, batch: Batch) -> int:
    """Return the ``batch_size`` for ``LightningModule.log``; 0 for a spare batch.

    It is multiplied by the number of devices because Lightning sums it over devices, divides by their number and
    rounds down: 13 samples on two devices would count as 6 per device, and the mean would be too large.
    """
    return batch.counted * module.trainer.world_size
