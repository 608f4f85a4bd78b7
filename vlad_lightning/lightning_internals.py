"""The private names of torch and Lightning that this package relies on, in one file for upgrades.

Each is here because there is no public way; ``tests/test_lightning_internals.py`` checks that the installed version has
it and that it behaves as expected. Checked with torch 2.15 and lightning 2.6.6; the minimum is torch 2.10. Lightning
is only imported inside functions, because ``models`` imports this module and must not depend on Lightning.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode  # FlopCounterMode's base; no public name

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.environments import ClusterEnvironment

__all__ = [
    "LOOP_STEPS",
    "OVERRIDDEN",
    "DispatchMode",
    "accumulates",
    "cluster_environment",
    "collective_timeout",
    "compute_dtype",
    "copy_",
    "is_compiled",
    "keep_sigterm_here",
    "optimizer_to_device",
    "overloads_of",
    "raise_recompile_limit",
    "scale_outside",
    "set_collective_timeout",
    "set_group_timeout",
    "storage_id",
]

OVERRIDDEN = (
    "lightning.pytorch.cli.LightningCLI._parse_ckpt_path",  # cli/fit: it reads a whole checkpoint on every rank
    "lightning.pytorch.cli.LightningCLI._parser",  # cli/fit: the parser of a subcommand, to write its configuration
    "lightning.fabric.loggers.csv_logs._ExperimentWriter._check_log_dir_exists",  # health/loggers: rows are kept
    "lightning.fabric.loggers.csv_logs._ExperimentWriter._record_new_keys",
    "lightning.pytorch.strategies.ModelParallelStrategy._setup_distributed",  # strategies/sharded: before its own mesh
    "torchmetrics.Metric._wrap_compute",  # metrics/per_image: it squeezes compute's result, which is no tensor
)
"""Methods of base classes that our subclasses override or call on themselves. They also use these attributes:
``_experiment`` of both loggers; ``_device_mesh``, ``_timeout`` and ``_save_distributed_checkpoint`` of the strategy."""

LOOP_STEPS = "_batches_that_stepped"
"""The key, in a checkpoint's state of the epoch loop, of the step that Lightning passes to its loggers."""


def accumulates(trainer: Trainer) -> bool:
    """Return whether the optimizer step needs more batches after the one that has just ended, as Lightning counts."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """Return the environment that started the processes.

    Single-device strategies have none, so it is read from the accelerator connector, which always detects it.
    """
    return trainer._accelerator_connector.cluster_environment


def keep_sigterm_here(trainer: Trainer) -> None:
    """Keep Lightning from forwarding SIGTERM to the other ranks: it would wait for them inside the signal handler."""
    cast(Any, trainer._signal_connector)._sigterm_notifier_fn = _pass_over


def _pass_over(*_: Any) -> None:
    """Do nothing, instead of Lightning's handler."""


def collective_timeout(trainer: Trainer) -> timedelta | None:
    """Return the time-out of the strategy's collectives; None if it has none or leaves that to the backend."""
    found: timedelta | None = getattr(trainer.strategy, "_timeout", None)
    return found


def set_collective_timeout(trainer: Trainer, timeout: timedelta) -> None:
    """Set the time-out before the processes meet; a strategy takes it only as a constructor argument."""
    cast(Any, trainer.strategy)._timeout = timeout


def set_group_timeout(timeout: timedelta, group: Any) -> None:
    """Change a group's time-out with ``set_timeout`` of newer versions, which is private in torch 2.10."""
    set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    set_timeout(timeout, group)


def optimizer_to_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move an optimizer's state as Lightning's strategies do; step counts that must stay on the CPU do."""
    from lightning.fabric.utilities.optimizer import _optimizer_to_device

    _optimizer_to_device(optimizer, device)


def compute_dtype(plugin: Any) -> torch.dtype:
    """Return the dtype that a precision plugin computes in, as Lightning's own throughput monitor determines it."""
    from lightning.pytorch.callbacks.throughput_monitor import _plugin_to_compute_dtype

    return _plugin_to_compute_dtype(plugin)


def scale_outside(optimizer: torch.optim.Optimizer) -> None:
    """Make a fused optimizer leave unscaling the gradients to the caller, as other optimizers do.

    Otherwise it unscales within its step, after the clipping, which Lightning refuses under every mixed precision.
    """
    cast(Any, optimizer)._step_supports_amp_scaling = False


def storage_id(tensor: Tensor) -> int:
    """Return a number that is equal for tensors in the same memory.

    ``data_ptr`` does not serve: it is 0 for all empty tensors and on the meta device.
    """
    return tensor.untyped_storage()._cdata


def copy_(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy many tensors in few kernels. The public ``torch.optim.swa_utils`` averages whole modules only."""
    torch._foreach_copy_(list(targets), list(values))


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``Module.compile`` was called on the module or a part of it."""
    return any(part._compiled_call_impl is not None for part in module.modules())


def raise_recompile_limit(least: int) -> None:
    """Let torch.compile keep ``least`` variants of a function; its default is 8."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, least)


def overloads_of(operator: Any) -> Any:
    """Return the operator without its overload: the key in the ``flop_registry`` of torch's flop counter."""
    return operator._overloadpacket
