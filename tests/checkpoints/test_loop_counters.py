"""Resumed fits read the same samples as an undisturbed fit, wherever the checkpoint was saved."""

from __future__ import annotations

import shutil
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.types import Batch

STEPS = 8


class Reader(LightningModule):
    """Records keys and epoch by optimizer step, and the steps after which a validation runs or an epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.read: dict[int, list[str]] = defaultdict(list)
        self.validated: list[int] = []
        self.logged: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.ended: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:  # the samples of an interrupted step are read again
            self.read[self.global_step] = []
        self.read[self.global_step] += batch.keys
        return (batch.images.mean() - self.level).square()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.logged[self.global_step] = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        self.epochs[self.global_step] = self.current_epoch

    def on_train_epoch_end(self) -> None:
        self.ended.append(self.global_step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append(self.global_step)

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches  # like the stages: the loader is built before the loops
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEverywhere(Callback):
    """Saves a checkpoint in every hook in which callbacks save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _save(self, trainer: Trainer, place: str) -> None:
        trainer.save_checkpoint(self.folder / f"{place}-{trainer.fit_loop.total_batch_idx + 1}.ckpt")

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._save(trainer, "batch")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "epoch")


def fit(
    root: Path, batch_size: int, accumulation: int, ckpt_path: Path | None = None, workers: int = 0, **changes: Any
) -> Reader:
    module = Reader()
    options: dict[str, Any] = {
        "accumulate_grad_batches": accumulation,
        "limit_val_batches": 1,
        "val_check_interval": 2 * accumulation,
        "check_val_every_n_epoch": None,
    } | changes
    callbacks = [ExactResume(), *options.pop("callbacks", [])]
    trainer = tiny.trainer(STEPS, callbacks=callbacks, **options)
    data = MarioDataModule(str(root), size=8, batch_size=batch_size, num_workers=workers)
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module


def train_keys(data: MarioDataModule) -> list[str]:
    train = data._sets["train"]
    return [train.source.keys[i] for i in train.indices]


@pytest.fixture(scope="module")
def saved(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, Path]:
    """Make an undisturbed run (two accumulated batches of 6 per step, three steps per epoch) and its checkpoints."""
    folder = tmp_path_factory.mktemp("saved")
    return fit(posters, 6, 2, callbacks=[SaveEverywhere(folder)]), folder


def checkpoints() -> list[str]:
    at_batches = [f"batch-{number}" for number in range(1, 13)]  # in the middle and at the end of steps and epochs
    return [*at_batches, "validation-4", "validation-8", "validation-12", "epoch-6", "epoch-12"]


def steps_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_the_undisturbed_run_follows_the_order(saved: tuple[Reader, Path], posters: Path) -> None:
    module, folder = saved
    data = MarioDataModule(str(posters), size=8, batch_size=12)
    order = data.order()
    keys = train_keys(data)
    steps = order.steps
    for step in range(STEPS):
        permutation = order.permutation(step // steps).tolist()
        first = step % steps * 12
        assert module.read[step] == [keys[i] for i in permutation[first : first + 12]]
    state = torch.load(folder / "batch-7.ckpt", weights_only=True)["MarioDataModule"]
    assert state == {
        "samples": order.after(0, 3),
        "step": 3,
        "of": order.samples,
        "content": data.content(),
    }  # the batch of the fourth step does not count


# The same batch in other parts: from the middle and the end of a step, of an epoch and of the second one.
OTHER_PARTS = ("batch-3", "batch-4", "batch-6", "batch-9", "validation-8", "epoch-6")


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "batch_size", "accumulation"),
    [(name, 6, 2) for name in checkpoints()] + [(name, *parts) for name in OTHER_PARTS for parts in ((12, 1), (3, 4))],
)
def test_a_resumed_run_continues_the_order(
    saved: tuple[Reader, Path], posters: Path, name: str, batch_size: int, accumulation: int
) -> None:
    whole, folder = saved
    path = folder / f"{name}.ckpt"
    resumed = fit(posters, batch_size, accumulation, ckpt_path=path)
    assert dict(resumed.read) == {step: keys for step, keys in whole.read.items() if step >= steps_of(path)}
    if accumulation == 2:
        assert resumed.logged == {step: value for step, value in whole.logged.items() if step in resumed.logged}
    for now, before in ((resumed.validated, whole.validated), (resumed.ended, whole.ended)):
        assert [step for step in now if step > steps_of(path)] == [step for step in before if step > steps_of(path)]
    assert resumed.epochs == {step: epoch for step, epoch in whole.epochs.items() if step >= steps_of(path)}


@pytest.mark.parametrize("name", ["batch-3", "batch-6", "batch-8", "epoch-6"])
def test_batches_that_workers_prefetched_are_read_again(saved: tuple[Reader, Path], posters: Path, name: str) -> None:
    whole, folder = saved
    resumed = fit(posters, 6, 2, ckpt_path=folder / f"{name}.ckpt", workers=2)
    assert dict(resumed.read) == {s: k for s, k in whole.read.items() if s >= steps_of(folder / f"{name}.ckpt")}


def test_a_resumed_run_can_be_resumed_again(saved: tuple[Reader, Path], posters: Path, tmp_path: Path) -> None:
    whole, folder = saved
    fit(posters, 4, 3, ckpt_path=folder / "batch-3.ckpt", callbacks=[SaveEverywhere(tmp_path)])
    for path in sorted(tmp_path.glob("*.ckpt"))[::4]:
        resumed = fit(posters, 2, 6, ckpt_path=path)
        assert dict(resumed.read) == {step: keys for step, keys in whole.read.items() if step >= steps_of(path)}


def test_shortened_epochs_resume_too(posters: Path, tmp_path: Path) -> None:
    options = {"limit_train_batches": 3, "limit_val_batches": 0}  # a whole step and half a step
    whole = fit(posters, 6, 2, callbacks=[SaveEverywhere(tmp_path)], **options)
    assert {len(keys) for keys in whole.read.values()} == {12, 6}
    for path in sorted(tmp_path.glob("*.ckpt"))[::3]:
        resumed = fit(posters, 6, 2, ckpt_path=path, **options)
        assert dict(resumed.read) == {s: keys for s, keys in whole.read.items() if s >= steps_of(path)}, path.name


def test_another_global_batch_continues_at_the_same_sample(saved: tuple[Reader, Path], posters: Path) -> None:
    whole, folder = saved
    resumed = fit(posters, 7, 1, ckpt_path=folder / "batch-2.ckpt")  # one step of 12 is done
    data = MarioDataModule(str(posters), size=8, batch_size=7)
    data.setup()
    keys = train_keys(data)
    first, second = (data.order().permutation(epoch).tolist() for epoch in (0, 1))
    assert resumed.read[1] == [keys[i] for i in first[12:19]]
    assert whole.read[0] == [keys[i] for i in first[:12]]
    starts = [step for step, read in resumed.read.items() if read == [keys[i] for i in second[:7]]]
    assert starts == [1 + (len(first) // 7 - 2)]  # the samples read count as two steps of the new size


def test_a_checkpoint_without_a_position_resumes_by_its_steps(
    saved: tuple[Reader, Path], posters: Path, tmp_path: Path
) -> None:
    whole, folder = saved
    state = torch.load(folder / "batch-8.ckpt", weights_only=True)
    del state["MarioDataModule"]
    torch.save(state, tmp_path / "old.ckpt")
    resumed = fit(posters, 6, 2, ckpt_path=tmp_path / "old.ckpt")
    assert dict(resumed.read) == {step: keys for step, keys in whole.read.items() if step >= 4}
    assert resumed.epochs == {step: epoch for step, epoch in whole.epochs.items() if step >= 4}
    assert [step for step in resumed.ended if step > 4] == [step for step in whole.ended if step > 4]


def test_a_strategy_that_restores_after_setup_continues_the_order(saved: tuple[Reader, Path], posters: Path) -> None:
    """Like the sharding strategies: the loader and its workers exist before the checkpoint is read."""

    class Late(SingleDeviceStrategy):
        @property
        def restore_checkpoint_after_setup(self) -> bool:
            return True

    whole, folder = saved
    for workers in (0, 1):
        strategy = Late(torch.device("cpu"))
        resumed = fit(posters, 6, 2, ckpt_path=folder / "batch-3.ckpt", workers=workers, strategy=strategy)
        assert dict(resumed.read) == {step: keys for step, keys in whole.read.items() if step >= 1}


def test_a_new_fit_starts_at_the_beginning(posters: Path) -> None:
    data = MarioDataModule(str(posters), size=8, batch_size=6)
    found = []
    for _ in range(2):
        module = Reader()
        tiny.trainer(3).fit(module, data)
        found.append(module.read)
    assert found[0] == found[1]


def test_overfitting_uses_the_same_batches_each_epoch(posters: Path) -> None:
    module = Reader()
    data = MarioDataModule(str(posters), size=8, batch_size=6)
    tiny.trainer(6, overfit_batches=2, limit_val_batches=1.0).fit(module, data)
    assert module.read[0] == module.read[2] == module.read[4]
    assert module.read[0] != module.read[1] == module.read[3]


def test_a_training_split_of_another_size_is_reported(posters: Path) -> None:
    data = tiny.data(posters)
    size = len(data.train_dataloader().dataset)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=f"the training split had {size + 1} samples and has {size}"):
        data.load_state_dict({"samples": 4, "step": 1, "of": size + 1})


def test_a_test_needs_no_training_split(posters: Path, tmp_path: Path) -> None:
    data = tiny.data(posters)
    trainer = tiny.trainer(1, callbacks=[ExactResume()])
    trainer.fit(tiny.stage("tlg"), datamodule=data)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = MarioDataModule(str(posters), size=tiny.SIZE, batch_size=8, max_objects=8, val_share=0.2, test_share=0.5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the training split had")
        tiny.trainer(limit_val_batches=1).validate(tiny.stage("tlg"), datamodule=other, ckpt_path=tmp_path / "x.ckpt")


def test_a_checkpoint_records_the_content_of_its_data_folder(
    saved: tuple[Reader, Path], posters: Path, tmp_path: Path
) -> None:
    state = torch.load(saved[1] / "batch-3.ckpt", weights_only=True)
    data = MarioDataModule(str(posters), size=8)
    assert data.changed_since(state) == ()
    assert data.changed_since({}) is None
    shutil.copytree(posters, tmp_path / "other")
    for file in (tmp_path / "other").glob("*/*/caption.txt"):
        file.write_text("another caption")
    other = MarioDataModule(str(tmp_path / "other"), size=8)
    assert other.changed_since(state) == ("caption.txt",)
