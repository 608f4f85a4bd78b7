from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from vlad_lightning.data.scene_data import SceneBatch, SceneDataModule
from vlad_lightning.models.object_augmentation import ObjectAugmentation
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules.object_detection import ObjectDetectionModule
from vlad_lightning.modules.optimization import Optimization

FAST = Optimization(lr=1e-2, warmup_steps=5, schedule="constant_with_warmup")


def detection(seed: int = 0, augmentation: ObjectAugmentation | None = None) -> ObjectDetectionModule:
    seed_everything(seed)
    return ObjectDetectionModule(ObjectDetector(width=8), FAST, augmentation or ObjectAugmentation())


@pytest.fixture(scope="module")
def batch(posters: Path) -> SceneBatch:
    data = SceneDataModule(str(posters), size=64, batch_size=16, val_share=0.2, test_share=0.2)
    data.setup()
    return next(iter(data.train_dataloader()))


def loader(batch: SceneBatch) -> DataLoader[SceneBatch]:
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]


@pytest.mark.no_cover
def test_a_few_steps_find_the_objects_of_a_batch(batch: SceneBatch) -> None:
    module = detection(augmentation=ObjectAugmentation(blobs=0.0, noise=0.0, blur=0.0))
    validate = tiny.trainer(limit_val_batches=1).validate
    before = validate(module, loader(batch), verbose=False)[0]
    tiny.trainer(120).fit(module, loader(batch))
    after = validate(module, loader(batch), verbose=False)[0]
    assert after["val/loss"] < 0.5 * before["val/loss"]
    assert before["val/recall"] < 0.3
    assert after["val/recall"] > 0.6
    assert after["val/precision"] > 0.6
    assert after["val/colour"] > 0.4
    assert 0 <= after["val/shape"] <= after["val/recall"]


def test_every_weight_moves_in_mixed_precision(batch: SceneBatch) -> None:
    module = detection()
    before = {key: value.detach().clone() for key, value in module.named_parameters()}
    tiny.trainer(2, precision="bf16-mixed").fit(module, loader(batch))
    assert all(not torch.equal(value, before[key]) for key, value in module.named_parameters())
    assert all(value.isfinite().all() for value in module.parameters())


def test_a_resumed_fit_equals_the_undisturbed_one(batch: SceneBatch, tmp_path: Path) -> None:
    """This includes the augmentation of posters, which depends on the step."""

    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> tuple[Trainer, dict[str, torch.Tensor]]:
        trainer, module = tiny.trainer(steps), detection(seed)
        trainer.fit(module, loader(batch), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module.state_dict()

    _, whole = fit(4, seed=0)
    stopped, _ = fit(2, seed=0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(4, seed=1, ckpt_path=tmp_path / "stopped.ckpt")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_folder_of_posters_is_trained_on(posters: Path) -> None:
    data = SceneDataModule(str(posters), size=64, batch_size=8, val_share=0.2, test_share=0.2)
    trainer = tiny.trainer(2, limit_val_batches=1, val_check_interval=2)
    trainer.fit(detection(), datamodule=data)
    assert {"val/loss", "val/recall", "val/precision", "val/shape", "val/colour"} <= set(trainer.callback_metrics)
