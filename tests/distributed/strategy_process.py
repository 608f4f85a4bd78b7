"""Script of test_strategies.py for every rank: `python strategy_process.py '[{"name": "fsdp-tlg", ...}, ...]'`."""

from __future__ import annotations

import collections
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, Strategy
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from vlad_lightning.callbacks import SampleGrid
from vlad_lightning.checkpoints import DurableCheckpointIO
from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.health import EMA
from vlad_lightning.modules.optimization import Optimization
from vlad_lightning.strategies import ShardedStrategy

DECAY = 0.7


def whole(tensor: Tensor) -> Tensor:
    """Copy the whole tensor to every rank."""
    found = tensor.detach()
    return (found.full_tensor() if isinstance(found, DTensor) else found).clone()


class Watch(Callback):
    """Records losses, gradients, their norms before and after clipping, and the EMA by its definition."""

    def __init__(self, out: Path, clip: float) -> None:
        self.out = out
        self.clip = clip
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.mean: dict[str, Tensor] = {}
        self.step = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = {k: whole(p.grad) for k, p in pl_module.named_parameters() if p.grad is not None}
        if trainer.global_step == 0 and trainer.is_global_zero:
            save_file(gradients, self.out / "gradients.safetensors")
        self.norms.append(float(torch.stack([g.double().square().sum() for g in gradients.values()]).sum().sqrt()))

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = [whole(p.grad) for p in pl_module.parameters() if p.grad is not None]
        if gradients and self.clip:
            norm = float(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())
            assert norm <= self.clip * 1.001, norm

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        for key, parameter in pl_module.named_parameters():
            if parameter.requires_grad:
                now = whole(parameter)
                before = self.mean.get(key)
                self.mean[key] = now if before is None else before.lerp(now, 1 - DECAY)


def strategy_of(job: dict[str, Any]) -> Strategy | str:
    kind = job["strategy"]
    if kind == "ddp":
        return DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True)
    if kind == "ddp_static":
        return DDPStrategy(static_graph=True, gradient_as_bucket_view=True)
    if kind in ("fsdp", "hsdp"):
        return ShardedStrategy(
            replicas=2 if kind == "hsdp" else 1,
            save_distributed_checkpoint=job.get("folder", False),
            sync_each_backward=job.get("sync_each_backward", False),
            timeout=timedelta(minutes=47),
        )
    return "auto"


def timeouts(strategy: ShardedStrategy) -> list[float]:
    """Return the time-out in seconds of the collectives of each mesh dimension."""
    backends: list[Any] = [g._get_backend(strategy.root_device) for g in strategy.device_mesh.get_all_groups()]
    return [backend.options._timeout.total_seconds() for backend in backends]


def run(job: dict[str, Any]) -> None:
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    module = tiny.stage(job["stage"], seed=job.get("seed", 0))
    module.optimization = Optimization(  # type: ignore[assignment]
        lr=1e-3, warmup_steps=2, schedule="constant_with_warmup", fused=job.get("fused", False)
    )
    clip = job.get("clip", 0.5)
    watch, ema = Watch(out, clip), EMA(DECAY)
    keep = ModelCheckpoint(
        out, filename="{step}", save_top_k=-1, every_n_train_steps=2, save_last=True, enable_version_counter=False
    )
    grids = [SampleGrid(samples=2)] if hasattr(module, "draw") else []
    trainer = tiny.trainer(
        job.get("steps", 4),
        callbacks=[keep, ema, watch, ExactResume(), *grids],
        devices=job["devices"],
        strategy=strategy_of(job),
        accumulate_grad_batches=job.get("accumulation", 1),
        precision=job.get("precision", "32-true"),
        gradient_clip_val=clip,
        use_distributed_sampler=False,
        enable_checkpointing=True,
        limit_val_batches=1.0,
        val_check_interval=job.get("val_check_interval", 2) * job.get("accumulation", 1),
        check_val_every_n_epoch=None,
        plugins=[DurableCheckpointIO()],
    )
    data = tiny.data(job["root"], batch_size=job["batch"])
    trainer.fit(module, datamodule=data, ckpt_path=job.get("ckpt_path"), weights_only=True)
    averaged = {key: whole(value) for key, value in module.named_parameters()}
    if "ckpt_path" not in job:  # a resumed EMA starts from a value that the callback has not seen
        for key, mean in watch.mean.items():
            assert torch.equal(averaged[key], mean), key
    if trainer.is_global_zero:
        save_file(averaged, out / "averaged.safetensors")
    if isinstance(trainer.strategy, ShardedStrategy):
        (out / f"timeouts-{trainer.global_rank}.json").write_text(json.dumps(timeouts(trainer.strategy)))
    (out / f"losses-{trainer.global_rank}.json").write_text(json.dumps([watch.losses, watch.norms]))
    if job.get("count"):
        return
    measured = tiny.data(job["root"], batch_size=3)  # the same batches for any number of processes
    metrics = trainer.validate(module, datamodule=measured, verbose=False)[0]
    (out / f"metrics-{trainer.global_rank}.json").write_text(json.dumps(metrics))
    if job.get("test"):
        tested = Trainer(
            accelerator="cpu",
            devices=job["devices"],
            strategy=strategy_of(job),
            logger=False,
            use_distributed_sampler=False,
            plugins=[DurableCheckpointIO()],
            enable_progress_bar=False,
        ).validate(tiny.stage(job["stage"], seed=5), datamodule=measured, ckpt_path=keep.last_model_path, verbose=False)
        (out / f"tested-{trainer.global_rank}.json").write_text(json.dumps(tested[0]))


def count(job: dict[str, Any]) -> None:
    """Count the collectives of a fit on this rank, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run(job)
    found = collections.Counter(e.name for e in profile.events() if e.name.startswith("c10d::"))
    Path(job["out"], "collectives.json").write_text(json.dumps(found))


if __name__ == "__main__":
    for each in json.loads(sys.argv[1]):
        print("job", each["out"], flush=True)
        count(each) if each.get("count") else run(each)
