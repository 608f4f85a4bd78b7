"""FSDP2 in Lightning: fully or hybrid sharded, with checkpoints that any strategy can resume from."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vlad_lightning.checkpoints.folder import (
    TensorPath,
    fill_tensors,
    map_tensors,
    open_folder,
    restore,
    storage_of,
    tensor_paths,
    write_folder,
)
from vlad_lightning.lightning_internals import optimizer_to_device, set_group_timeout
from vlad_lightning.models.fsdp import placed_as, shard, whole_parameters

_METHODS = ("training_step", "validation_step", "test_step", "predict_step", "draw")


class ShardedStrategy(ModelParallelStrategy):
    """Weights, gradients, optimizer states and averages in shards, over all devices or over groups of them.

    Lightning's ``ModelParallelStrategy`` has a mesh of data and tensor parallelism, which cannot express replicas of
    shards. It also does not delay the gradient reduction of accumulated batches, and writes optimizer states in another
    order than DDP. This strategy has its own mesh, and its checkpoints have the content and order of one process's.

    Args:
        replicas: number of groups that each hold all weights; 1 shards over all devices, the number of nodes shards
            inside each node. It must divide the number of devices.
        save_distributed_checkpoint: True writes a checkpoint as a folder, each process its shards; False collects it
            on the first process and writes a file.
        sync_each_backward: for accumulated batches. False reduces gradients once per step and keeps them unsharded
            until then; True reduces them after each batch and keeps only shards.
        gather_in_bf16: True gathers weights in bfloat16 under ``bf16-mixed`` on a GPU, half the bytes; False gathers
            them in float32.
        process_group_backend: backend of torch.distributed; None means the device's default.
        timeout: timeout of the collectives, in every group of the mesh; None means the backend's default.

    Raises:
        ValueError: where ``replicas`` is below 1, or, when processes start, does not divide their number.
    """

    def __init__(
        self,
        replicas: int = 1,
        save_distributed_checkpoint: bool = False,
        sync_each_backward: bool = False,
        gather_in_bf16: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        if replicas < 1:
            raise ValueError(f"replicas is {replicas}; it must be at least 1")
        super().__init__(
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.replicas = replicas
        self.sync_each_backward = sync_each_backward
        self.gather_in_bf16 = gather_in_bf16
        self._blocked = False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True, as in the plain strategies: Lightning restores the optimizer states in its usual order."""
        return True

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Arguments of the distributed sampler: every process reads its own part of the data."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    def setup_environment(self) -> None:
        """Start the process group, and create the device mesh."""
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self._setup_distributed()
        if self.world_size % self.replicas:
            raise ValueError(f"replicas is {self.replicas}; it must divide the number of devices, {self.world_size}")
        shards = self.world_size // self.replicas
        shape, names = (
            ((self.world_size,), ("shard",))
            if self.replicas == 1
            else (
                (self.replicas, shards),
                ("replicate", "shard"),
            )
        )
        self._device_mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
        if self._timeout is not None:  # the mesh creates its groups with the backend's default
            for group in self._device_mesh.get_all_groups():
                set_group_timeout(self._timeout, group)
        assert self.lightning_module is not None
        self.lightning_module._device_mesh = self._device_mesh

    def setup(self, trainer: Trainer) -> None:
        """Set up the module; evaluation uses ``no_grad`` instead of torch's inference mode.

        Weights that FSDP2 gathered in inference mode could not be trained later: "Inplace update to inference tensor".
        Lightning turns this mode off only for its own FSDP and for gloo. A fit's validation never uses it.
        """
        for loop in (trainer.validate_loop, trainer.test_loop, trainer.predict_loop):
            loop.inference_mode = False
        super().setup(trainer)

    def teardown(self) -> None:
        """Wait for checkpoints that are still being written, as the plain strategies do, and raise if one failed.

        Raises:
            OSError: by :class:`~vlad_lightning.checkpoints.DurableCheckpointIO`, if the last checkpoint failed.
        """
        super().teardown()
        self.checkpoint_io.teardown()

    @contextmanager
    def block_backward_sync(self) -> Generator[None, None, None]:
        """Keep the gradients of an accumulated batch local until the last batch of the step."""
        if self.sync_each_backward:
            yield
            return
        self._sync_gradients(False)
        try:
            yield
        finally:
            self._sync_gradients(True)

    def _sync_gradients(self, enabled: bool) -> None:
        self._blocked = not enabled
        module = self.lightning_module
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(enabled)

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of unsharded parameters in one collective; ``fully_shard`` averages the others."""
        super().post_backward(closure_loss)
        assert self.lightning_module is not None
        held = [p.grad for p in whole_parameters(self.lightning_module) if p.grad is not None]
        if self._blocked or not held:
            return
        flat = torch.stack([g.float() for g in held])
        dist.all_reduce(flat)
        for gradient, total in zip(held, flat / self.world_size, strict=True):
            gradient.copy_(total)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the weights, sharded ones as shards; :meth:`save_checkpoint` writes or collects them."""
        assert self.lightning_module is not None
        return dict(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state in the optimizer's own order, which is the same under every strategy."""
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return dict(plain.state_dict())

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a folder of shards, or collect them and write the file that one process would write.

        Raises:
            TypeError: where ``storage_options`` are given.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options is {storage_options!r}; {type(self).__name__} takes none")
        path = Path(self.broadcast(filepath))
        if self._save_distributed_checkpoint:
            write_folder(checkpoint, path)
        else:
            collected = self._collected(checkpoint)
            Strategy.save_checkpoint(self, collected, path)

    def _collected(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Gather all shards on the CPU of the first process; the other processes take part and get empty tensors."""
        known: dict[tuple[Any, ...], Tensor] = {}

        def whole(at: TensorPath, tensor: Tensor) -> Tensor:
            key = storage_of(tensor)
            if key not in known:
                full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
                known[key] = full.detach().cpu() if self.is_global_zero else torch.empty(0)
            return known[key]

        return dict(map_tensors(checkpoint, whole))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint of any strategy and any number of processes, with its tensors sharded like this module.

        Pickled code is never loaded, whatever ``weights_only`` is.
        """
        path = Path(self.broadcast(checkpoint_path))
        likes = self._likes()
        if not path.is_dir():
            found = self.checkpoint_io.load_checkpoint(path, map_location="cpu", weights_only=True)
            return dict(map_tensors(found, lambda at, t: self._placed(at, t, likes)))
        metadata, index = open_folder(path)
        targets: dict[str, Tensor] = {}
        for at, key in tensor_paths(metadata).items():
            known = index[key]
            like = self._like(at, known.size, likes)
            if key not in targets or isinstance(like, DTensor):
                kind = known.properties.dtype
                targets[key] = (
                    torch.empty(known.size, dtype=kind) if like is None else torch.zeros_like(like, dtype=kind)
                )
        fill_tensors(targets, path)
        return dict(restore(metadata, lambda at, key: targets[key]))

    def _placed(self, at: TensorPath, tensor: Tensor, likes: Mapping[Any, Any]) -> Tensor:
        like = self._like(at, tensor.shape, likes)
        return tensor if like is None else placed_as(tensor, like)

    def _likes(self) -> dict[Any, Any]:
        """Return the tensors to shard like: weights by name, and parameters by (optimizer index, parameter index)."""
        assert self.lightning_module is not None
        known: dict[Any, Any] = dict(self.lightning_module.state_dict())
        for i, optimizer in enumerate(self.optimizers):
            parameters = [p.detach() for group in optimizer.param_groups for p in group["params"]]
            known |= {(i, j): p for j, p in enumerate(parameters)}
        return known

    def _like(self, at: TensorPath, shape: Any, likes: Mapping[Any, Any]) -> DTensor | None:
        """Return the shard with the mesh and rows that the tensor at ``at`` must have; None if it is not sharded."""
        if at[0] == "optimizer_states" and len(at) == 5 and at[2] == "state":
            like = likes.get((at[1], at[3]))
        else:  # a weight in any state dict: trained or averaged
            like = likes.get(at[1]) if len(at) == 2 else None
        return like if isinstance(like, DTensor) and like.shape == torch.Size(shape) else None

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the weights that :meth:`load_checkpoint` has sharded."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the states that :meth:`load_checkpoint` has sharded."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            optimizer.load_state_dict(state)
            optimizer_to_device(optimizer, self.root_device)


def shard_module(module: LightningModule, left_out: str | None = None) -> None:
    """Shard a stage under :class:`ShardedStrategy`, and do nothing otherwise; called by ``configure_model``.

    Under ``bf16-mixed`` weights are gathered in bfloat16 on a GPU, and gradients are reduced in float32. On a CPU
    autocast ignores norms, which do not accept bfloat16 weights for float32 inputs; on a GPU it runs them in float32.

    Args:
        module: the stage.
        left_out: what the stage does not measure with sharded weights, for a notice.

    Raises:
        ValueError: where the processes start from different weights.
    """
    strategy = module.trainer.strategy
    if not isinstance(strategy, ShardedStrategy) or isinstance(module, FSDPModule):
        return
    _check_equal(module, strategy)
    precision = module.trainer.precision_plugin
    mixed = isinstance(precision, MixedPrecision) and precision.precision == "bf16-mixed"
    halves = mixed and strategy.gather_in_bf16 and strategy.root_device.type == "cuda"
    methods = [name for name in _METHODS if hasattr(module, name)]
    shard(module, strategy.device_mesh, torch.bfloat16 if halves else None, methods)
    if left_out is not None:
        rank_zero_info(
            f"notice: the weights are sharded, so {left_out} does not run; to run it, test a checkpoint on one device"
        )


def _check_equal(module: LightningModule, strategy: ShardedStrategy) -> None:
    """Refuse ranks with different initial weights: unlike DDP, FSDP2 does not broadcast those of the first rank."""
    with torch.no_grad():
        sums = torch.stack([p.detach().double().sum().cpu() for p in module.parameters() if p.requires_grad])
    equal = torch.equal(sums, strategy.broadcast(sums))
    if not strategy.reduce_boolean_decision(equal):
        raise ValueError("the processes start from different weights; set seed_everything to a number")
