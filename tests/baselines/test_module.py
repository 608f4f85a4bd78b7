"""A baseline is trained, resumed, tested and used to predict like VLAD; Stable Diffusion stands for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_baselines
import tiny_system as tiny
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from vlad_lightning.baselines import BaselineModule
from vlad_lightning.callbacks import ResultsWriter
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.metrics.evaluation import Evaluation
from vlad_lightning.types import GeneratedImages, Layout


class Blind:
    """An engine that reads the same word on every image."""

    name = "blind"

    def read(self, images: Tensor) -> list[list[str]]:
        return [["HELLO"]] * len(images)


def test_a_resumed_fit_equals_the_undisturbed_one(posters: Path, tmp_path: Path) -> None:
    def fit(steps: int, seed: int, ckpt_path: Path | None = None) -> tuple[Trainer, BaselineModule]:
        trainer = tiny.trainer(steps, limit_val_batches=1, val_check_interval=1)
        module = tiny_baselines.module(tiny_baselines.stable_diffusion(seed, freeze_text_tower=False))
        trainer.fit(module, datamodule=tiny.data(posters), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    whole, expected = fit(4, seed=0)
    stopped, _ = fit(2, seed=0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(4, seed=1, ckpt_path=tmp_path / "stopped.ckpt")
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[key]) for key, value in expected.named_parameters())
    assert whole.callback_metrics["val/loss"].isfinite()


def test_the_validation_loss_has_the_same_noise_each_time(posters: Path) -> None:
    module = tiny_baselines.module()
    runs = [tiny.trainer(limit_val_batches=1).validate(module, tiny.data(posters), verbose=False) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_test_measures_posters_and_prompts_and_writes_both_files(posters: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('a sign that says "HELLO"\na red circle\n', encoding="utf-8")
    data = tiny.data(posters, limit_test=8, test_prompts=str(prompts))
    module = tiny_baselines.module(evaluation=Evaluation(Blind()))
    trainer = tiny.trainer(callbacks=[ResultsWriter(str(tmp_path), "SD")])
    trainer.test(module, datamodule=data, verbose=False)
    results = json.loads((tmp_path / "results.json").read_text())["SD"]
    assert results["human_word_accuracy"]["value"] == 1.0
    assert results["word_accuracy"]["n"] > 0
    assert "layout_word_accuracy" not in results or results["layout_word_accuracy"]["n"] == 0
    rows = json.loads((tmp_path / "per_image.json").read_text())["SD"]
    assert rows.keys() <= results.keys()
    assert "word_accuracy" in rows


def test_predict_names_the_images_and_refuses_what_the_system_cannot_do(tmp_path: Path) -> None:
    (generated,) = tiny.trainer().predict(tiny_baselines.module(), datamodule=PromptDataModule(["a star", "a circle"]))
    assert isinstance(generated, GeneratedImages)
    assert (len(generated.keys), generated.images.shape) == (2, (2, 3, tiny.SIZE, tiny.SIZE))
    layout = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.5, 0.2, 0.0]]))
    LayoutFile(layout, 64, 64).save(tmp_path / "hi.json")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": 'a sign that says "HI"', "layout": "hi.json"}))
    with pytest.raises(ValueError, match=r"a\.jsonl.*a layout or template is given; a StableDiffusion uses no"):
        tiny.trainer().predict(tiny_baselines.module(), datamodule=RequestDataModule(str(tmp_path / "a.jsonl")))


def test_settings_that_do_not_fit_are_refused(posters: Path) -> None:
    with pytest.raises(ValueError, match="steps is 1001"):
        tiny_baselines.module(sampler=ImageSampler(steps=1001))
    with pytest.raises(ValueError, match=r"layout_sampler is .*; it is needed with a layout_generator only"):
        tiny_baselines.module(layout_sampler=Sampler(steps=7))
    with pytest.raises(ValueError, match="oracle_layouts is True; a StableDiffusion uses no layouts"):
        tiny_baselines.module(oracle_layouts=True)
    for name, value in (("size", 48), ("max_words", 5)):
        with pytest.raises(ValueError, match=rf"data\.{name} is {value} and model\.baseline\."):
            tiny.trainer().fit(tiny_baselines.module(), datamodule=tiny.data(posters, **{name: value}))
    untaught = tiny_baselines.module()
    untaught.baseline.prompt_encoders["prompt_encoder"].text_encoder.tokenizer = None
    with pytest.raises(ValueError, match=r"model\.baseline\.prompt_encoder\.text_encoder has no tokenizer"):
        tiny.trainer().fit(untaught, datamodule=tiny.data(posters))
