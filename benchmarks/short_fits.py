"""Train a few steps of the shipped stages in a group of processes, and count their communication.

``python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/short_fits.py TASKS OUT`` trains each task
of a JSON list on the CPU, and each rank writes its counts into the folder OUT. :func:`run` does that.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from collectives import Call, CollectiveCounter, bytes_of, received_bytes
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from vlad_lightning.cli import fit as cli
from vlad_lightning.files import configs_folder
from vlad_lightning.models.text.encoder import TextEncoder, train_tokenizer
from vlad_lightning.modules import AlignmentModule, VFEModule

OVERLAYS = {"ddp": "ddp", "ddp bf16": "ddp_bf16", "hybrid": "hsdp", "fsdp": "fsdp"}
"""The strategies, and their files in ``configs/cluster``."""


@dataclass(frozen=True)
class Task:
    """A short training.

    Attributes:
        name: name of the stage, a file in ``configs/mini``.
        strategy: a key of :data:`OVERLAYS`; empty for one process.
        batch: images per rank.
        steps: steps that count, after ``warmup`` that do not.
        data: a folder in MARIO's format.
        warmup: uncounted first steps, in which DDP rebuilds its buckets.
        count: False measures only the time, because counting costs time.
        validate: number of validation batches to count too.
    """

    name: str
    strategy: str
    batch: int
    steps: int
    data: str
    warmup: int = 2
    count: bool = True
    validate: int = 0


@dataclass
class Record:
    """What one rank counted of a task.

    Attributes:
        task: the task.
        rank: rank of the process.
        ranks: W.
        calls: collectives of the steps that count.
        validation: collectives of the validation.
        received: bytes received on the sockets in a step.
        ms: milliseconds of each step.
        trained: elements of the trained weights.
        tensors: number of trained tensors.
        sharded: elements of the weights that the strategy shards.
        gathered: elements of them that a step gathers, counted each time.
        scattered: elements of gradients that a step scatters.
        buffers: bytes of the buffers that DDP broadcasts.
        width: D of the embeddings that InfoNCE gathers; 0 without.
        validated: validated images of a rank.
    """

    task: Task
    rank: int
    ranks: int
    calls: list[Call] = field(default_factory=list)
    validation: list[Call] = field(default_factory=list)
    received: float = math.nan
    ms: list[float] = field(default_factory=list)
    trained: int = 0
    tensors: int = 0
    sharded: int = 0
    gathered: float = 0.0
    scattered: int = 0
    buffers: int = 0
    width: int = 0
    validated: int = 0


class StepCounter(Callback):
    """Counts collectives, received bytes and time, both of the steps after the first few and of a validation."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.counter, self.validation = CollectiveCounter(), CollectiveCounter()
        self.ms: list[float] = []
        self.received = 0
        self.validated = 0
        self.units: Units | None = None
        self._steps = 0
        self._ended = 0.0

    @property
    def _counts(self) -> bool:
        return self.task.count and self._steps >= self.task.warmup

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which weights are sharded."""
        if self.task.count and isinstance(pl_module, FSDPModule):
            self.units = Units(pl_module)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start counting."""
        if self._counts:
            self.received -= received_bytes()
            self.counter.__enter__()

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Note the gradients."""
        if self.units is not None:
            self.units.see_gradients()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop counting; the time runs from the end of one step to the end of the next."""
        if self._counts:
            self.counter.__exit__(None, None, None)
            self.received += received_bytes()
        now, self._steps = time.perf_counter(), self._steps + 1
        if self._steps > self.task.warmup:
            self.ms.append(1000 * (now - self._ended))
        self._ended = now

    def on_validation_start(self, *_: Any) -> None:
        """Start counting."""
        if self.task.validate:
            self.validation.__enter__()

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Count the images."""
        self.validated += len(batch)

    def on_validation_end(self, *_: Any) -> None:
        """Stop counting."""
        if self.task.validate:
            self.validation.__exit__(None, None, None)
        self._ended = time.perf_counter()


def train(task: Task) -> Record:
    """Fit a few steps of a shipped stage in this process, one of a group."""
    built = cli.build([*_arguments(task)], run=False)
    module: LightningModule = built.model
    _give_tokenizers(module, built.datamodule)
    record = Record(task, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    trained = [p for p in module.parameters() if p.requires_grad]
    record.trained, record.tensors = sum(p.numel() for p in trained), len(trained)
    record.buffers = bytes_of(list(module.buffers()))
    record.width = _embedding_width(module)
    counter = StepCounter(task)
    trainer: Any = built.trainer
    trainer.callbacks += [counter, *([CompressGradients()] if task.strategy == "ddp bf16" else [])]
    trainer.fit(module, built.datamodule)
    steps = task.warmup + task.steps
    if counter.units is not None:
        record.sharded, record.gathered = counter.units.sharded, counter.units.gathered(steps)
        record.scattered = counter.units.scattered
    record.calls, record.validation = counter.counter.calls, counter.validation.calls
    record.received, record.ms, record.validated = counter.received / task.steps, counter.ms, counter.validated
    return record


class CompressGradients(Callback):
    """Registers DDP's bf16 hook, which Lightning registers on GPUs only."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Register the hook."""
        assert isinstance(trainer.model, DistributedDataParallel)
        trainer.model.register_comm_hook(None, bf16_compress_hook)


def _arguments(task: Task) -> list[str]:
    ranks, steps = os.environ["WORLD_SIZE"], task.warmup + task.steps
    names = [f"mini/{task.name}.yaml", *([f"cluster/{OVERLAYS[task.strategy]}.yaml"] if task.strategy else [])]
    settings = {
        "data.root": task.data,
        "data.batch_size": task.batch,
        "trainer.accelerator": "cpu",
        "trainer.devices": ranks,
        "trainer.num_nodes": 1,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.limit_val_batches": task.validate,
        "trainer.num_sanity_val_steps": 0,
        "trainer.logger": "false",
        "trainer.callbacks": "null",
        "trainer.enable_checkpointing": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.default_root_dir": str(Path(task.data).parent / "root"),
    }
    files = [part for name in names for part in ("--config", str(configs_folder() / name))]
    return [*files, *[f"--{key}={value}" for key, value in settings.items()]]


def _give_tokenizers(module: nn.Module, data: Any) -> None:
    """Give the stage the tokenizers that the checkpoint of stage 0 would bring."""
    for encoder in (m for m in module.modules() if isinstance(m, TextEncoder)):
        encoder.tokenizer = train_tokenizer(data.captions(), encoder.reader.vocabulary(encoder.tower))


def _embedding_width(module: LightningModule) -> int:
    if isinstance(module, AlignmentModule):
        return module.prompt_encoder.width
    return module.image_generator.prompt_encoder.width if isinstance(module, VFEModule) else 0


class Units:
    """The units that FSDP2 gathers as one: the weights of each, and how often a step uses it.

    Args:
        module: a sharded stage, which is the outermost unit.
    """

    def __init__(self, module: nn.Module) -> None:
        self.root = module
        self.uses: Counter[nn.Module] = Counter()
        self.weights: dict[nn.Module, list[nn.Parameter]] = {}
        self.with_gradient: dict[nn.Module, int] = {}
        units = [m for m in module.modules() if isinstance(m, FSDPModule) and isinstance(m, nn.Module)]
        for unit in units:
            inner = {p for u in unit.modules() if u in set(units) - {unit} for p in u.parameters()}
            self.weights[unit] = [p for p in unit.parameters() if isinstance(p, DTensor) and p not in inner]
            unit.register_forward_pre_hook(self._used)

    def _used(self, unit: nn.Module, inputs: Any) -> None:
        self.uses[unit] += 1

    def see_gradients(self) -> None:
        """Note which weights have a gradient: FSDP2 sends only those, while DDP sends zeros for the others."""
        self.with_gradient = {u: sum(p.numel() for p in ps if p.grad is not None) for u, ps in self.weights.items()}

    @property
    def sharded(self) -> int:
        """Elements of all units."""
        return sum(p.numel() for weights in self.weights.values() for p in weights)

    def gathered(self, steps: int) -> float:
        """Count the elements that a step gathers: units before each use and their gradients, the outermost one once."""
        return sum(
            sum(p.numel() for p in weights) * (1 if unit is self.root else 2 * self.uses[unit] / steps)
            for unit, weights in self.weights.items()
        )

    @property
    def scattered(self) -> int:
        """Count the elements of gradients that a step scatters: once, however often a unit is used."""
        return sum(self.with_gradient.values())


def run(tasks: Sequence[Task], ranks: int) -> list[list[Record]]:
    """Train the tasks in a group of ``ranks`` new processes with one thread each; return the ranks' records per task.

    Raises:
        RuntimeError: if a process fails, with the end of the processes' output.
    """
    with TemporaryDirectory() as folder:
        listed = Path(folder, "tasks.json")
        listed.write_text(json.dumps([asdict(task) for task in tasks]))
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        done = subprocess.run(
            [*launch, __file__, str(listed), folder],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{ranks} processes ended with {done.returncode}:\n{done.stderr[-5000:]}")
        return [[_read(Path(folder, f"{i}-{rank}.json")) for rank in range(ranks)] for i in range(len(tasks))]


def _read(path: Path) -> Record:
    saved = json.loads(path.read_text())
    saved |= {name: [Call(**call) for call in saved[name]] for name in ("calls", "validation")}
    return Record(Task(**saved.pop("task")), **saved)


def main() -> None:
    """Train the tasks of the list, in this order, in this process of the group."""
    tasks, out = [Task(**task) for task in json.loads(Path(sys.argv[1]).read_text())], Path(sys.argv[2])
    torch.set_num_threads(1)
    for index, task in enumerate(tasks):
        record = train(task)
        Path(out, f"{index}-{record.rank}.json").write_text(json.dumps(asdict(record)))


if __name__ == "__main__":
    main()
