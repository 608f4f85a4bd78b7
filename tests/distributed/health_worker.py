"""Run one rank of a fit with poisoned data, or that hangs: ``python health_worker.py SCENARIO STRATEGY FOLDER``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from poisoned import NAN, Regression, Rows
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, DistributedSampler

from vlad_lightning.health import FitSummary, RollBack, StepGuard, ThroughputLogger, Watchdog

# global batches have four rows: step 4 and steps 8 to 10 have one bad row each, which another rank may hold
POISON = {13: NAN, 28: NAN, 33: NAN, 39: NAN}
STEPS, EVERY = 14, 3


class Sharded(Regression):
    """The same regression, split by fully_shard."""

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(self.body.weight, DTensor):
            mesh = self.device_mesh["data_parallel"]
            for part in (self.body, self.head, self):
                fully_shard(part, mesh=mesh)


class Watch(Callback):
    """Records weights and gradient norms of each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.norms: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.weights[trainer.global_step] = whole(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        guard = next(c for c in trainer.callbacks if isinstance(c, StepGuard))
        self.norms.append(guard.vitals.grad_norm)
        self.losses.append(guard.vitals.loss)


class Sleeper(Callback):
    """Rank 1 never reaches the third step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 2 and trainer.global_rank == 1:
            time.sleep(3600)


def whole(module: LightningModule) -> dict[str, Tensor]:
    values = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in module.state_dict().items()}
    return {k: v.detach().clone() for k, v in values.items()}


def strategy(name: str) -> Strategy | str:
    if name == "ddp":
        return DDPStrategy(process_group_backend="gloo")
    if name == "fsdp":
        return ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo")
    return "auto"


def main(scenario: str, name: str, folder: Path) -> None:
    ranks = 1 if name == "single" else 2
    guard, back, watch = StepGuard(), RollBack(after=3, proof=0), Watch()
    saver = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=EVERY)
    extra = [Sleeper(), Watchdog(timeout=15, slow_timeout=300, grace=10)] if scenario == "hang" else []
    trainer = tiny.trainer(
        STEPS,
        callbacks=[guard, back, ThroughputLogger(), FitSummary(), watch, saver, *extra],
        strategy=strategy(name),
        devices=ranks,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        enable_checkpointing=True,
    )
    module = Sharded()
    data = Rows(96, POISON if scenario == "poison" else {})
    # alternate, so that a global batch has the same four rows for any number of ranks
    sampler = DistributedSampler(data, ranks, int(os.environ.get("RANK", "0")), shuffle=False)
    trainer.fit(module, DataLoader(data, 4 // ranks, sampler=sampler))
    watch.weights[STEPS] = whole(module)
    counts = {"skipped": guard.skipped, "rollbacks": back.rollbacks, "bad_steps": guard.bad_steps}
    seen = {"weights": watch.weights, "norms": watch.norms, "losses": watch.losses}
    torch.save(counts | seen, folder / f"rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
