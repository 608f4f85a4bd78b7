"""Tests of every stage: determinism, learning, precision, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from vlad_lightning.types import Batch, Sample

EVERY = pytest.mark.parametrize("name", tiny.STAGES)


def weights_after(name: str, seed: int, root: Path, steps: int = 12) -> dict[str, torch.Tensor]:
    module = tiny.stage(name, seed, **({"tokenizer": False} if name == "alignment" else {}))
    tiny.trainer(steps).fit(module, datamodule=tiny.data(root))
    return dict(module.named_parameters())


@pytest.mark.no_cover
@EVERY
def test_same_seed_gives_the_same_weights_bit_for_bit(name: str, posters: Path) -> None:
    first, second = (weights_after(name, 0, posters) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = weights_after(name, 1, posters, steps=1)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def one_batch(root: Path, size: int = 8) -> DataLoader[Sample]:
    """The same ``size`` samples, in the same order, every epoch."""
    data = tiny.data(root)
    data.setup()
    samples = [data.train_dataloader().dataset[i,] for i in range(size)]
    return DataLoader(samples, batch_size=size, collate_fn=Batch.collate)  # type: ignore[arg-type]


@pytest.mark.no_cover
@EVERY
def test_training_lowers_the_loss(name: str, posters: Path) -> None:
    module, batch = tiny.stage(name), one_batch(posters)

    def loss() -> float:
        metrics = tiny.trainer(limit_val_batches=1).validate(module, batch, verbose=False)
        return metrics[0]["val/loss"]

    before = loss()
    tiny.trainer(50).fit(module, batch)
    assert loss() < 0.75 * before


@EVERY
def test_mixed_precision_trains_in_float32_weights(name: str, posters: Path) -> None:
    module = tiny.stage(name)
    before = {key: value.detach().clone() for key, value in module.named_parameters()}
    trainer = tiny.trainer(2, precision="bf16-mixed", limit_val_batches=1, val_check_interval=1)
    trainer.fit(module, datamodule=tiny.data(posters))
    tensors = [value for value in module.state_dict().values() if isinstance(value, torch.Tensor)]
    assert {value.dtype for value in tensors if value.is_floating_point()} == {torch.float32}
    assert all(value.isfinite().all() for value in module.parameters())
    assert any(not torch.equal(value, before[key]) for key, value in module.named_parameters())
    assert torch.isfinite(trainer.callback_metrics["val/loss"])


@EVERY
def test_a_resumed_fit_equals_the_undisturbed_one(name: str, posters: Path, tmp_path: Path) -> None:
    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> tuple[Trainer, LightningModule]:
        trainer, module = tiny.trainer(steps), tiny.stage(name, seed)
        trainer.fit(module, one_batch(posters), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    _, whole = fit(6, seed=0)
    stopped, _ = fit(3, seed=0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(6, seed=1, ckpt_path=tmp_path / "stopped.ckpt")  # the resume overwrites the effects of the seed
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[key]) for key, value in whole.named_parameters())


@pytest.mark.parametrize("name", ["tlg", "vfe"])
def test_accumulated_batches_have_different_noise(name: str, posters: Path) -> None:
    class Losses(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(float(outputs["loss"]))

    module, losses = tiny.stage(name), Losses()
    batch = next(iter(one_batch(posters)))
    loader: DataLoader[Any] = DataLoader([batch, batch], batch_size=None)  # type: ignore[arg-type]
    tiny.trainer(1, accumulate_grad_batches=2, callbacks=[losses]).fit(module, loader)
    assert len(losses.seen) == 2
    assert losses.seen[0] != losses.seen[1]  # same weights, same samples


@EVERY
def test_run_time_settings_and_paths_are_not_in_the_checkpoint(name: str, posters: Path, tmp_path: Path) -> None:
    trainer = tiny.trainer(1)
    trainer.fit(tiny.stage(name), datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert "hyper_parameters" not in saved
    assert str(posters) not in str({key: value for key, value in saved.items() if key != "state_dict"})
