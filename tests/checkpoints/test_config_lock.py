from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

from vlad_lightning.checkpoints.config_lock import ConfigLock, changes, flatten, refuse_changes, table
from vlad_lightning.data.mario_folder import MarioFolder

CONFIG: dict[str, Any] = {
    "out": "runs/a",
    "seed_everything": 0,
    "checkpoints": {"keep": 2},
    "model": {
        "class_path": "x.TLGModule",
        "init_args": {"optimization": {"lr": 1e-3, "fused": None}, "sampler": {"steps": 5}, "sizes": [1, 2], "no": {}},
    },
    "data": {"class_path": "x.Mario", "init_args": {"root": "runs/a/data", "batch_size": 4, "num_workers": 0}},
    "trainer": {
        "max_steps": 10,
        "devices": "auto",
        "precision": "bf16-mixed",
        "logger": [{"class_path": "l.CSVLogger", "init_args": {"save_dir": "runs/a"}}],
        "callbacks": [
            {"class_path": "c.InitFrom", "init_args": {"part": "one", "checkpoint": "runs/a/stage0/last.ckpt"}},
            {"class_path": "c.InitFrom", "init_args": {"part": "two"}},
            {"class_path": "c.EMA", "init_args": {"decay": 0.9}},
            {"class_path": "c.RichProgressBar"},
        ],
    },
}


def test_keys_equal_those_of_the_command_line() -> None:
    flat = flatten(CONFIG, "runs/a")
    assert flat["model.class_path"] == "x.TLGModule"
    assert flat["model.optimization.lr"] == 1e-3
    assert flat["model.sizes"] == [1, 2]
    assert flat["data.root"] == "{out}/data"
    assert flat["trainer.callbacks.InitFrom[0].checkpoint"] == "{out}/stage0/last.ckpt"
    assert flat["trainer.callbacks.InitFrom[1].part"] == "two"
    assert flat["trainer.callbacks.EMA.decay"] == 0.9
    assert not [key for key in flat if key.startswith(("out", "checkpoints"))]


def test_the_lock_loads_from_a_checkpoint_without_running_code(tmp_path: Any) -> None:
    flat = flatten(CONFIG, "runs/a")
    torch.save(flat, tmp_path / "x")
    assert torch.load(tmp_path / "x", weights_only=True) == flat


def test_a_moved_run_is_the_same_run() -> None:
    moved = eval(repr(CONFIG).replace("runs/a", "/elsewhere/b"))
    assert not changes(flatten(CONFIG, "runs/a"), flatten(moved, "/elsewhere/b"))
    assert "runs/ab" in str(flatten({"data": {"root": "runs/ab"}}, "runs/a"))  # another folder, not one in it


def changed(key: str, value: Any) -> dict[str, Any]:
    return {**flatten(CONFIG, "runs/a"), key: value}


@pytest.mark.parametrize(
    "key",
    [
        *("seed_everything", "model.class_path", "model.optimization.lr", "data.batch_size", "data.root", "data.seed"),
        *("trainer.precision", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
        *("trainer.callbacks.EMA.decay", "trainer.callbacks.InitFrom[0].part", "trainer.limit_train_batches"),
    ],
)
def test_settings_that_determine_the_training_are_locked(key: str) -> None:
    then = flatten(CONFIG, "runs/a")
    assert changes(then, changed(key, "other")) == [(key, then.get(key, "(not set)"), "other")]
    assert not changes(then, changed(key, "other"), [key])


@pytest.mark.parametrize(
    "key",
    [
        *("trainer.max_steps", "trainer.max_time", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
        *("trainer.strategy.find_unused_parameters", "trainer.logger.CSVLogger.save_dir", "trainer.log_every_n_steps"),
        *("data.num_workers", "data.max_outage", "data.test_root", "model.sampler.steps", "model.optimization.fused"),
        *(
            "model.image_generator.vfe.acceleration.compile",
            "trainer.callbacks.RichProgressBar.leave",
            "trainer.plugins",
        ),
        *("trainer.callbacks.LearningRateMonitor.class_path", "trainer.val_check_interval"),
    ],
)
def test_other_settings_may_change(key: str) -> None:
    assert not changes(flatten(CONFIG, "runs/a"), changed(key, "other"))


def test_a_key_missing_on_either_side_is_a_difference() -> None:
    flat = flatten(CONFIG, "runs/a")
    less = {key: value for key, value in flat.items() if not key.startswith("trainer.callbacks.EMA")}
    assert [key for key, *_ in changes(flat, less)] == [
        "trainer.callbacks.EMA.class_path",
        "trainer.callbacks.EMA.decay",
    ]
    assert changes(less, flat)[1] == ("trainer.callbacks.EMA.decay", "(not set)", 0.9)


@pytest.mark.parametrize(
    ("named", "allowed"),
    [
        (["data.init_args.batch_size"], True),
        (["--data.batch_size"], True),
        (["data"], True),
        (["data.*"], True),
        (["data.batch"], False),
        (["model"], False),
    ],
)
def test_keys_may_be_named_in_any_of_their_forms(named: list[str], allowed: bool) -> None:
    assert (not changes(flatten(CONFIG, "runs/a"), changed("data.batch_size", 8), named)) == allowed
    assert not changes(
        flatten(CONFIG, "runs/a"), changed("trainer.callbacks.InitFrom[1].part", "x"), ["trainer.callbacks"]
    )
    assert not changes(
        flatten(CONFIG, "runs/a"), changed("trainer.callbacks.InitFrom[1].part", "x"), ["trainer.callbacks.InitFrom"]
    )


class ChangedData(LightningDataModule):
    """Reports that some of its samples differ from those that the checkpoint was trained on."""

    source = MarioFolder("posters")

    def __init__(self, changed: tuple[str, ...] | None) -> None:
        super().__init__()
        self.changed = changed

    def changed_since(self, checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
        return self.changed

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.ones(1, 32))  # type: ignore[arg-type]


def resume(folder: Path, changed: tuple[str, ...] | None, *allow_changes: str) -> None:
    """Save a fit of one step, and resume it."""
    options: dict[str, Any] = {"limit_val_batches": 0, "callbacks": [ConfigLock({}, allow_changes)]}
    if not (folder / "x.ckpt").exists():
        trainer = tiny.trainer(1, **options)
        trainer.fit(BoringModel(), ChangedData(changed))
        trainer.save_checkpoint(folder / "x.ckpt")
    trainer = tiny.trainer(2, **options)
    trainer.fit(BoringModel(), ChangedData(changed), ckpt_path=folder / "x.ckpt", weights_only=True)
    assert trainer.global_step == 2


def test_other_data_are_refused_unless_allowed(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the (checkpoint|caption)")
        resume(tmp_path, ())
    told = r"the caption\.txt, image\.jpg in posters are not those that the checkpoint was trained on"
    for named in ((), ("data.root",), ("model",)):
        with pytest.raises(
            ValueError, match=rf"^{told}; put them back, or allow it: --resume.allow_changes data\.content$"
        ):
            resume(tmp_path, ("caption.txt", "image.jpg"), *named)
    for named in (("data.content",), ("data",), ("data.*",)):
        with pytest.warns(UserWarning, match=f"{told}; --resume.allow_changes allows it"):
            resume(tmp_path, ("caption.txt", "image.jpg"), *named)
    with pytest.warns(UserWarning, match="does not say what its data folder held"):
        resume(tmp_path, None)


def test_another_configuration_is_refused_when_the_checkpoint_is_loaded(tmp_path: Path) -> None:
    """Most processes of a fit have not checked the configuration before."""
    options: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    trainer = tiny.trainer(1, callbacks=[ConfigLock({"data.batch_size": 4})], **options)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    for lock in (ConfigLock({"data.batch_size": 4}), ConfigLock({"data.batch_size": 8}, ["data.*"])):
        tiny.trainer(2, callbacks=[lock], **options).fit(
            BoringModel(), ckpt_path=tmp_path / "x.ckpt", weights_only=True
        )
    trainer = tiny.trainer(2, callbacks=[ConfigLock({"data.batch_size": 8})], **options)
    with pytest.raises(
        ValueError, match=r"x\.ckpt was trained under another .*--resume.allow_changes '\[data.batch_size\]'"
    ):
        trainer.fit(BoringModel(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)


def test_the_table_has_one_line_per_key() -> None:
    assert table([("data.batch_size", 4, 8), ("model.x", None, "y " * 99)]).splitlines()[:2] == [
        "key              then  now",
        "data.batch_size  4     8",
    ]
    assert len(table([("model.x", None, "y " * 99)]).splitlines()[1]) < 90


def test_the_first_value_of_a_trained_weight_cannot_be_allowed_to_change() -> None:
    then, now = {"model.temperature": 0.07, "model.x": 1}, {"model.temperature": 0.5, "model.x": 2}
    assert changes(then, now, ["model"]) == [("model.temperature", 0.07, 0.5)]
    with pytest.raises(ValueError, match=r"another model\.temperature, .* undo the change \(0\.07\)"):
        refuse_changes("x.ckpt", then, now, ["model.*"])


def test_a_resume_keeps_on_record_where_its_weights_came_from(tmp_path: Path) -> None:
    key = "trainer.callbacks.InitFrom[0].checkpoint"
    trainer = tiny.trainer(1, callbacks=[ConfigLock({key: "first.ckpt"})])
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    lock = ConfigLock({key: "second.ckpt"}, ["trainer.callbacks.InitFrom"])
    with pytest.warns(UserWarning, match=r"InitFrom\[0\]\.checkpoint: without effect"):
        tiny.trainer(2, callbacks=[lock]).fit(BoringModel(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert lock.config == {key: "first.ckpt"}
