"""Test the sharded strategy in a group of one process; tests/distributed/test_strategies.py has larger groups."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch.distributed as dist
from lightning.pytorch import Trainer
from poisoned import Regression, loader
from torch import Tensor

from vlad_lightning.checkpoints import Checkpoints, DurableCheckpointIO
from vlad_lightning.strategies import ShardedStrategy, shard_module


@pytest.fixture(autouse=True)
def _group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One process that somebody has started; Lightning would write its variables into this one's environment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "NODE_RANK": 0}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def sharded(steps: int = 1, backend: str | None = None, **changes: Any) -> Trainer:
    strategy = ShardedStrategy(process_group_backend=backend)
    return tiny.trainer(steps, strategy=strategy, devices=1, use_distributed_sampler=False, **changes)


class Sharded(Regression):
    def configure_model(self) -> None:
        shard_module(self)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


def test_a_validated_module_can_be_trained() -> None:
    """With a backend of that name, as with NCCL, Lightning would validate in torch's inference mode."""
    module, trainer = Sharded(), sharded(backend="cpu:gloo", limit_val_batches=1, num_sanity_val_steps=1)
    trainer.validate(module, loader(), verbose=False)
    trainer.fit(module, loader(), loader())
    assert trainer.global_step == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_last_checkpoint_that_could_not_be_written_ends_the_fit_with_an_error(
    posters: Path, small_disk: Path, asynchronous: bool
) -> None:
    (small_disk / "full").write_bytes(bytes(8 * 2**20 - 50_000))
    writer = DurableCheckpointIO()
    keeper = Checkpoints(str(small_disk / "stage"), asynchronous=asynchronous)
    trainer = sharded(callbacks=[keeper], plugins=[writer], enable_checkpointing=True)
    with (
        pytest.warns(UserWarning, match="a checkpoint could not be written"),
        pytest.raises(OSError, match="the last checkpoint could not be written"),
    ):
        trainer.fit(tiny.stage("tlg"), datamodule=tiny.data(posters))
    assert writer._thread is None  # nothing is left running


@pytest.mark.parametrize(("stage", "probe"), [("alignment", "the alignment probe"), ("vfe", "the text probe")])
def test_a_fit_reports_once_that_no_probe_runs_on_shards(
    stage: str, probe: str, posters: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {} if stage == "alignment" else {"lora": None}
    with caplog.at_level("INFO"):
        sharded(num_sanity_val_steps=1, limit_val_batches=1).fit(
            tiny.stage(stage, **changes), datamodule=tiny.data(posters)
        )
    notices = [line for line in caplog.messages if "the weights are sharded" in line]
    assert len(notices) == 1
    assert probe in notices[0]
    assert "\n" not in notices[0]


def test_a_fit_without_a_probe_does_not_report_it(posters: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        sharded().fit(tiny.stage("vfe", lora=None, text_probe=0), datamodule=tiny.data(posters))
    assert not [line for line in caplog.messages if "the weights are sharded" in line]
