"""The script that test_order.py runs: `python order_process.py '[[{"stage": "tlg", ...}, ...], ...]'`.

The jobs of a list may run side by side; the next list waits for all of them. Every rank of a job is a separate process,
forked after the imports, which take most of the time. The exit statuses are printed as JSON: a negative one is the
signal that ended a rank.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import tiny_system as tiny
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import save_file

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.types import Batch


class Recorder(Callback):
    """Writes samples and loss of every batch and gradients of the first step; kills all processes on demand."""

    def __init__(self, out: Path, kill_at: int | None) -> None:
        self.out = out
        self.kill_at = kill_at

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if trainer.global_step == self.kill_at and trainer.is_global_zero:
            os.killpg(0, signal.SIGKILL)  # every rank and worker

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step == 0 and trainer.is_global_zero:
            gradients = {k: p.grad.clone() for k, p in pl_module.named_parameters() if p.grad is not None}
            save_file(gradients, self.out / "gradients.safetensors")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        part, rank = batch_idx % trainer.accumulate_grad_batches, trainer.global_rank
        # the counter has already advanced if this batch ended a step
        step = trainer.global_step - (part + 1 == trainer.accumulate_grad_batches)
        line = {"step": step, "part": part, "rank": rank, "keys": batch.keys, "loss": float(outputs["loss"])}
        with (self.out / f"read-{rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def run(job: dict[str, Any]) -> None:
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    module = tiny.stage(job["stage"], seed=job.get("seed", 0))
    keep = ModelCheckpoint(
        out, save_last=True, save_top_k=0, every_n_train_steps=2, enable_version_counter=False, save_weights_only=False
    )
    devices = job.get("ranks", 1)
    trainer = tiny.trainer(
        8,
        callbacks=[keep, Recorder(out, job.get("kill_at")), ExactResume()],
        devices=devices,
        strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
        accumulate_grad_batches=job.get("accumulation", 1),
        use_distributed_sampler=False,
        enable_checkpointing=True,
        limit_val_batches=1.0,
        check_val_every_n_epoch=100,
    )
    if job.get("validate"):
        metrics = trainer.validate(module, datamodule=tiny.data(job["root"], batch_size=3), verbose=False)[0]
        if trainer.is_global_zero:
            (out / "metrics.json").write_text(json.dumps(metrics))
    data = tiny.data(job["root"], batch_size=job["batch"], num_workers=job.get("workers", 0))
    trainer.fit(module, datamodule=data, ckpt_path=job.get("ckpt_path"), weights_only=True)
    save_file({key: value.clone() for key, value in module.named_parameters()}, out / "weights.safetensors")


def rank_process(job: dict[str, Any], rank: int, port: int, group: int) -> int:
    """Fork a rank of a job; return its process id."""
    child = os.fork()
    if child:
        os.setpgid(child, group or child)  # before the next rank joins it
        return child
    os.setpgid(0, group)
    if job.get("ranks", 1) > 1:  # Lightning then starts none by itself
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(job["ranks"]), "GLOO_SOCKET_IFNAME": "lo"}
    try:
        run(job)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def start(job: dict[str, Any]) -> list[int]:
    """Start all ranks of a job; return their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks: list[int] = []
    for rank in range(job.get("ranks", 1)):
        ranks.append(rank_process(job, rank, port, ranks[0] if ranks else 0))
    return ranks


def statuses(jobs: list[dict[str, Any]]) -> list[list[int]]:
    """Run jobs, side by side as long as they have two ranks together, and return the exit statuses of their ranks."""
    waiting, started, ended = list(jobs), [], {}
    while len(ended) < sum(job.get("ranks", 1) for job in jobs):
        running = sum(map(len, started)) - len(ended)
        if waiting and running + waiting[0].get("ranks", 1) <= 2:
            started.append(start(waiting.pop(0)))
        else:
            child, status = os.wait()
            ended[child] = os.waitstatus_to_exitcode(status)
    return [[ended[child] for child in ranks] for ranks in started]


if __name__ == "__main__":
    print(json.dumps([statuses(jobs) for jobs in json.loads(sys.argv[1])]))
