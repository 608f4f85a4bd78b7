"""Test groups of one process: NCCL under DDP, and FSDP2; gloo if the tests run on a CPU."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from card import batch_of, fit, stage_2
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.distributed.tensor import DTensor

from vlad_lightning.models.fsdp import local
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.vfe import LORA_TARGETS
from vlad_lightning.strategies import ShardedStrategy
from vlad_lightning.types import Batch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return batch_of(posters)


@pytest.fixture(autouse=True)
def _group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the variables of a process that a launcher has started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "NODE_RANK": 0}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def strategy(kind: str, device: torch.device) -> Strategy:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if kind == "ddp":
        return DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    return ShardedStrategy(process_group_backend=backend, save_distributed_checkpoint=True)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_a_group_of_one_trains_like_a_single_process(
    kind: str, precision: str, batch: Batch, device: torch.device
) -> None:
    _, alone = fit(stage_2(), batch, device, 3, precision=precision)
    module = stage_2()
    trainer, found = fit(
        module, batch, device, 3, precision=precision, strategy=strategy(kind, device), use_distributed_sampler=False
    )
    assert trainer.strategy.root_device.type == device.type
    torch.testing.assert_close(found, alone, rtol=2e-2 if precision == "bf16-mixed" else 5e-3, atol=1e-3)
    assert isinstance(module.image_generator.vfe.fusion.weight, DTensor) == (kind == "fsdp2")


def test_a_widened_image_generator_with_adapters_is_sharded_saved_and_resumed(
    batch: Batch, device: torch.device, tmp_path: Path
) -> None:
    lora, path = Lora(2, 4, LORA_TARGETS), tmp_path / "x.ckpt"
    first, second = (stage_2(lora=lora, widened=True) for _ in range(2))
    published = first.image_generator.vfe.unet.conv_in.weight.detach().clone()
    save = Save(path)
    fit(first, batch, device, 3, [save], strategy=strategy("fsdp2", device), use_distributed_sampler=False)
    layer = first.image_generator.vfe.unet.conv_in
    assert isinstance(layer.further, DTensor)  # it trains
    assert not isinstance(layer.weight, DTensor)  # it is frozen
    assert torch.equal(layer.weight.cpu(), published)
    trained = local(layer.further).detach().cpu()  # all of it: one rank
    assert trained.any()
    start = Start()
    settings = {"strategy": strategy("fsdp2", device), "use_distributed_sampler": False, "callbacks": [start]}
    fit(second, batch, device, 4, ckpt_path=str(path), **settings)
    assert torch.equal(start.columns, trained)


class Start(Callback):
    """Records the added columns at the start of a fit."""

    def __init__(self) -> None:
        self.columns = torch.empty(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.columns = local(pl_module.get_parameter("image_generator.vfe.unet.conv_in.further")).detach().cpu().clone()


class Save(Callback):
    """Saves a checkpoint at the end of a fit, while its process group exists."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)
