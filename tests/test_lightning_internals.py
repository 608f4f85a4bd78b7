"""Each used private name of torch and Lightning exists and works as expected: a broken upgrade is named."""

from __future__ import annotations

import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

from vlad_lightning import lightning_internals as internals


class Point(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(*callbacks: Callback, steps: int = 2, **changes: Any) -> Trainer:
    trainer = tiny.trainer(steps, callbacks=list(callbacks), **changes)
    trainer.fit(Point(), DataLoader(torch.ones(8, 2), batch_size=1))  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize("name", internals.OVERRIDDEN)
def test_methods_that_are_overridden_exist(name: str) -> None:
    module, kind, method = name.rsplit(".", 2)
    assert callable(getattr(getattr(importlib.import_module(module), kind), method))


def test_attributes_of_base_classes_exist(tmp_path: Path) -> None:
    assert CSVLogger(tmp_path)._experiment is TensorBoardLogger(tmp_path)._experiment is None
    strategy = ModelParallelStrategy(save_distributed_checkpoint=False, timeout=timedelta(seconds=7))
    assert strategy._timeout == timedelta(seconds=7)
    assert strategy._save_distributed_checkpoint is False
    assert strategy._device_mesh is None
    assert Point()._device_mesh is None


def test_accumulates() -> None:
    class Watch(Callback):
        seen: list[tuple[int, bool]] = []  # noqa: RUF012  # for this test only

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            self.seen.append((trainer.global_step, internals.accumulates(trainer)))

    watch = Watch()
    fit(watch, accumulate_grad_batches=2)
    assert watch.seen == [(0, True), (1, False), (1, True), (2, False)]


def test_loop_steps(tmp_path: Path) -> None:
    trainer = fit(steps=3)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loop = torch.load(tmp_path / "x.ckpt", weights_only=True)["loops"]["fit_loop"]["epoch_loop.state_dict"]
    assert loop[internals.LOOP_STEPS] == 3


def test_cluster_environment_and_keep_sigterm_here() -> None:
    trainer = tiny.trainer()
    assert internals.cluster_environment(trainer) is None or isinstance(
        internals.cluster_environment(trainer), LightningEnvironment
    )
    connector = trainer._signal_connector
    assert connector._sigterm_notifier_fn.__qualname__.endswith("_SignalConnector._sigterm_notifier_fn")
    internals.keep_sigterm_here(trainer)
    connector._sigterm_notifier_fn(15, None)  # Lightning's would ask the strategy, and raise its exception later


def test_collective_timeout() -> None:
    assert internals.collective_timeout(tiny.trainer()) is None
    trainer = tiny.trainer(strategy=DDPStrategy(timeout=timedelta(minutes=3)), devices=1)
    assert internals.collective_timeout(trainer) == timedelta(minutes=3)
    internals.set_collective_timeout(trainer, timedelta(minutes=4))
    assert trainer.strategy._timeout == timedelta(minutes=4)  # type: ignore[attr-defined]


def test_set_group_timeout() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(minutes=5))
    try:
        group: Any = dist.group.WORLD
        internals.set_group_timeout(timedelta(minutes=9), group)
        assert group._get_backend(torch.device("cpu")).options._timeout == timedelta(minutes=9)
    finally:
        dist.destroy_process_group()


def test_optimizer_to_device() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    internals.optimizer_to_device(optimizer, torch.device("meta"))
    (state,) = optimizer.state.values()
    assert state["exp_avg"].device.type == "meta"
    assert state["step"].device.type == "cpu"


def test_compute_dtype() -> None:
    assert internals.compute_dtype(Precision()) == torch.float32
    assert internals.compute_dtype(MixedPrecision("bf16-mixed", "cpu")) == torch.bfloat16


def test_scale_outside() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))], fused=True)
    assert optimizer._step_supports_amp_scaling is True  # type: ignore[attr-defined]
    internals.scale_outside(optimizer)
    assert optimizer._step_supports_amp_scaling is False  # type: ignore[attr-defined]


def test_storage_id() -> None:
    one = torch.zeros(6)
    assert internals.storage_id(one) == internals.storage_id(one.view(2, 3)[1])
    assert internals.storage_id(one) != internals.storage_id(one.clone())
    assert internals.storage_id(torch.empty(0)) != internals.storage_id(empty := torch.empty(0))
    assert internals.storage_id(empty) == internals.storage_id(empty.view(0, 2))


def test_copy() -> None:
    means, values = [torch.zeros(2), torch.zeros(3)], [torch.full((2,), 3.0), torch.full((3,), 0.1)]
    internals.copy_(means, values)
    assert all(map(torch.equal, means, values))


def test_is_compiled() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert not internals.is_compiled(network)
    network[1].compile()  # compiles nothing before it is called
    assert internals.is_compiled(network)


def test_raise_recompile_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = torch._dynamo.config
    monkeypatch.setattr(config, "recompile_limit", 8)
    internals.raise_recompile_limit(64)
    assert config.recompile_limit == 64
    internals.raise_recompile_limit(10)
    assert config.recompile_limit == 64


def test_dispatch_mode_and_overloads_of() -> None:
    seen = []

    class Watch(internals.DispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(internals.overloads_of(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert torch.ops.aten.mm in seen
    assert torch.ops.aten.mm in flop_registry
