from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.metrics.alignment_probe import AlignmentProbe
from vlad_lightning.models.contrastive import info_nce, retrieval_at_1
from vlad_lightning.models.lora import Lora
from vlad_lightning.modules import AlignmentModule


def test_learns_a_tokenizer_from_the_training_captions_and_keeps_it(posters: Path, tmp_path: Path) -> None:
    module = tiny.alignment(tokenizer=False)
    trainer = tiny.trainer(1)
    trainer.fit(module, datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "stage0.ckpt")
    tokenizer = module.prompt_encoder.text_encoder.tokenizer
    assert tokenizer is not None
    assert len(tokenizer) <= 400
    other = tiny.alignment(tokenizer=False)
    other.load_state_dict(torch.load(tmp_path / "stage0.ckpt", weights_only=True)["state_dict"])
    restored = other.prompt_encoder.text_encoder.tokenizer
    assert restored is not None
    assert restored("a red circle").input_ids == tokenizer("a red circle").input_ids


def test_training_a_tokenizer_is_deterministic(posters: Path) -> None:
    modules = [tiny.alignment(tokenizer=False) for _ in range(2)]
    for module in modules:
        tiny.trainer(1).fit(module, datamodule=tiny.data(posters))
    first, second = (module.prompt_encoder.text_encoder.get_extra_state() for module in modules)
    assert first == second


def test_an_existing_tokenizer_is_kept(posters: Path) -> None:
    module = tiny.alignment()
    before = module.prompt_encoder.text_encoder.tokenizer
    tiny.trainer(1).fit(module, datamodule=tiny.data(posters))
    assert module.prompt_encoder.text_encoder.tokenizer is before


def test_r1_is_over_the_whole_validation_set(posters: Path) -> None:
    module, data = tiny.stage("alignment"), tiny.data(posters, batch_size=3)
    assert isinstance(module, AlignmentModule)
    metrics = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False).validate(
        module, datamodule=data, verbose=False
    )[0]
    with torch.no_grad():
        pairs = [
            (module.image_encoder(b.images), module.prompt_encoder(b.prompts).pooled) for b in data.val_dataloader()
        ]
    images, texts = (torch.cat(part) for part in zip(*pairs, strict=True))
    assert len(images) > 3
    expected = retrieval_at_1(images, texts)
    assert metrics["val/r1_image_to_text"] == pytest.approx(float(expected[0]))
    assert metrics["val/r1_text_to_image"] == pytest.approx(float(expected[1]))
    sizes = [len(b) for b in data.val_dataloader()]
    losses = [
        float(info_nce(i, t, 0.07)) for i, t in zip(images.split(sizes), texts.split(sizes), strict=True)
    ]  # a mean over samples, because Lightning weights batches by size
    assert metrics["val/loss"] == pytest.approx(sum(n * x for n, x in zip(sizes, losses, strict=True)) / sum(sizes))


def test_the_probe_is_over_the_whole_validation_set(posters: Path) -> None:
    module, data = tiny.stage("alignment"), tiny.data(posters, batch_size=3)
    assert isinstance(module, AlignmentModule)
    logged = tiny.trainer(limit_val_batches=1.0).validate(module, datamodule=data, verbose=False)[0]
    probe = AlignmentProbe(module.eval().score)
    for batch in data.val_dataloader():
        probe.update(batch.images, batch.prompts, batch.keys)
    expected = {name.replace("alignment_", "val/"): result.value for name, result in probe.compute().items()}
    assert {"val/probe_background_colour", "val/probe_object_shape", "val/probe_word_replaced"} <= set(expected)
    assert {name: value for name, value in logged.items() if "probe" in name} == pytest.approx(expected)


def test_a_second_validation_starts_from_zero(posters: Path) -> None:
    module, data = tiny.stage("alignment"), tiny.data(posters)
    first, second = (
        tiny.trainer(limit_val_batches=2).validate(module, datamodule=data, verbose=False) for _ in range(2)
    )
    assert first == second


def test_a_validation_does_not_depend_on_an_earlier_one(posters: Path) -> None:
    """With other weights, the results are as if these had been validated first."""
    module, other = tiny.stage("alignment"), tiny.stage("alignment", seed=1)
    fresh, again = (
        tiny.trainer(limit_val_batches=1.0).validate(one, datamodule=tiny.data(posters), verbose=False)[0]
        for one in (other, module)
    )
    assert fresh != again
    module.load_state_dict(other.state_dict())
    logged = tiny.trainer(limit_val_batches=1.0).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert logged == pytest.approx(fresh)


class WithSpare(MarioDataModule):
    """Each batch once, and the first one again, as on a device that has fewer batches than another."""

    def val_dataloader(self) -> Any:
        batches = list(super().val_dataloader())
        return DataLoader([*batches, replace(batches[0], spare=True)], batch_size=None)  # type: ignore[arg-type]


def test_spare_batches_do_not_count(posters: Path) -> None:
    logged = [
        tiny.trainer(limit_val_batches=1.0).validate(
            tiny.stage("alignment"), datamodule=kind(str(posters), size=tiny.SIZE, batch_size=3), verbose=False
        )[0]
        for kind in (MarioDataModule, WithSpare)
    ]
    assert logged[1] == pytest.approx(logged[0])


def test_a_frozen_image_encoder_does_not_change(posters: Path) -> None:
    module = tiny.alignment(freeze_image_encoder=True)
    before = {key: value.clone() for key, value in module.image_encoder.state_dict().items()}
    text = module.prompt_encoder.text_encoder.tower.text_projection.weight.detach().clone()
    tiny.trainer(3).fit(module, datamodule=tiny.data(posters))
    assert all(torch.equal(value, before[key]) for key, value in module.image_encoder.state_dict().items())
    assert not torch.equal(module.prompt_encoder.text_encoder.tower.text_projection.weight, text)


def test_adapters_train_and_their_scale_is_saved(posters: Path, tmp_path: Path) -> None:
    module = AlignmentModule(tiny.prompt_encoder(Lora(rank=2, alpha=6)), tiny.image_encoder(), tiny.FAST)
    before = {key: value.detach().clone() for key, value in module.named_parameters()}
    trainer = tiny.trainer(3)
    trainer.fit(module, datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["lora_scale"] == 3.0
    tower = "prompt_encoder.text_encoder.tower."
    moved = {key for key, value in module.named_parameters() if key.startswith(tower) and not value.equal(before[key])}
    assert moved
    assert all("lora_" in key for key in moved)


def test_temperature_never_falls_below_its_bound_and_can_rise_again(posters: Path) -> None:
    module = tiny.alignment(temperature=0.01)
    module.log_temperature.data.fill_(math.log(1e-4))
    tiny.trainer(1).fit(module, datamodule=tiny.data(posters))
    assert module.temperature.item() == pytest.approx(0.01)
    assert module.log_temperature.grad is not None
    assert module.log_temperature.grad != 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, 0.009])
def test_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"temperature is {temperature}; it must be at least 0\.01"):
        tiny.alignment(temperature=temperature)


def test_symmetric_is_passed_on(posters: Path) -> None:
    batch = next(iter(tiny.data(posters).val_dataloader()))
    for symmetric in (True, False):
        module = tiny.stage("alignment", symmetric=symmetric)
        assert isinstance(module, AlignmentModule)
        with torch.no_grad():
            parts = module.image_encoder(batch.images), module.prompt_encoder(batch.prompts).pooled
        metrics = tiny.trainer(limit_val_batches=1).validate(module, datamodule=tiny.data(posters), verbose=False)
        assert metrics[0]["val/loss"] == pytest.approx(float(info_nce(*parts, 0.07, symmetric=symmetric)))


def test_adapters_of_another_scale_are_refused(posters: Path, tmp_path: Path) -> None:
    def module(alpha: int) -> AlignmentModule:
        return AlignmentModule(tiny.prompt_encoder(Lora(rank=2, alpha=alpha)), tiny.image_encoder(), tiny.FAST)

    trainer = tiny.trainer(1)
    trainer.fit(module(4), datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"the checkpoint's adapters have alpha / rank 2.0"):
        tiny.trainer(2).fit(module(6), datamodule=tiny.data(posters), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
