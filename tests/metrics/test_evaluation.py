from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_system as tiny
import torch

from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.evaluation import Evaluation
from vlad_lightning.metrics.evaluation_encoder import EvaluationEncoder
from vlad_lightning.metrics.ocr_engine import OCREngine, RapidOCREngine
from vlad_lightning.metrics.paired import paired_difference
from vlad_lightning.metrics.per_image import image_id
from vlad_lightning.modules import VFEModule
from vlad_lightning.types import Batch, GeneratedImages, Layout


@pytest.fixture(scope="module")
def engine() -> OCREngine:
    return RapidOCREngine()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an untrained stage-0 checkpoint."""
    path = tmp_path_factory.mktemp("evaluation_encoder") / "stage0.ckpt"
    torch.save({"state_dict": tiny.stage("alignment").state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def evaluation_encoder(checkpoint: Path) -> EvaluationEncoder:
    return EvaluationEncoder(str(checkpoint), tiny.prompt_encoder(tokenizer=False), tiny.image_encoder())


@pytest.fixture(scope="module")
def batches(posters: Path) -> list[Batch]:
    """Make batches of eight posters at their original size."""
    data = tiny.data(posters, size=64, batch_size=4, test_root=str(posters), limit_test=8)
    data.setup()
    loader: Iterator[Batch] = iter(data.test_dataloader())
    return [next(loader) for _ in range(2)]


def as_generated(batch: Batch) -> GeneratedImages:
    """Use the images and boxes of the data set as generated ones, with the words in the prompts' order."""
    rows = zip(map(drawn_words, batch.prompts), batch.word_boxes, batch.word_mask, strict=True)
    layouts = [Layout(words[: int(mask.sum())], boxes[mask][: len(words)]) for words, boxes, mask in rows]
    return GeneratedImages(batch.images, tuple(layouts), glyph_images(batch.glyphs), batch.prompts, batch.keys)


FIELDS = [field.name for field in fields(Batch) if field.name not in ("spare", "parsed", "negatives", "latents")]


class Brightness:
    """Reads "HI", and finds a red star, on pictures that are bright at the left."""

    name, sha256, nouns = "brightness", "none", SHAPES

    def read(self, images: torch.Tensor) -> list[list[str]]:
        return [["HI"] if image[..., :8].mean() > 0 else [] for image in images]

    def detect(self, images: torch.Tensor) -> list[tuple[FoundObject, ...]]:
        return [(FoundObject("star", "red", 0.5, 0.5),) if words else () for words in self.read(images)]


def measure(bright: list[bool], batch: Batch) -> Evaluation:
    """Measure half of the samples in each of two batches, with white or black pictures."""
    evaluation = Evaluation(Brightness(), objects=Brightness())
    images = torch.tensor(bright).float().mul(2).sub(1).view(-1, 1, 1, 1).expand_as(batch.images)
    half = len(bright) // 2
    for part in (slice(0, half), slice(half, None)):
        told = {name: getattr(batch, name)[part] for name in FIELDS}
        generated = GeneratedImages(
            images[part], batch.layouts[part], glyph_images(batch.glyphs[part]), batch.prompts[part]
        )
        evaluation.update(generated, Batch(**told))
    return evaluation


def four_samples() -> Batch:
    wants = 'a red star on a white background, with the text "HI" at the top', 'it says "HI" at the bottom'
    boxes = torch.tensor([[[0.5, 0.1, 0.2, 0.1, 0.0]]]).repeat(4, 1, 1)
    layouts = tuple(Layout(("HI",), box) for box in boxes)
    pictures = torch.ones(4, 3, 32, 32)
    known = torch.ones(4, 1, dtype=torch.bool)
    nothing = torch.zeros(4, 1, 5), ~known, known.long(), known[:, 0]
    glyphs = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    return Batch(("a", "b", "c", "d"), pictures, wants * 2, layouts, glyphs, boxes, known, *nothing)


def test_per_image_rows_give_the_results() -> None:
    evaluation = measure([True, True, True, False], four_samples())
    results, rows = evaluation.compute(), evaluation.per_image()
    assert rows.keys() <= results.keys()
    assert results.keys() - rows.keys() == {"mario_f", "truth_mario_f"}
    for name, images in rows.items():
        part, whole = np.array(list(images.values())).sum(axis=0)
        assert results[name].value == pytest.approx(part / whole), name
    assert list(rows["word_accuracy"].items()) == [
        (image_id(key), (read, 1)) for key, read in zip("abcd", (1, 1, 1, 0), strict=True)
    ]
    asked = {image_id("a"): (1, 1), image_id("c"): (1, 1)}
    for name in ("background_colour", "object_presence"):
        assert {key: one for key, one in rows[name].items() if one[1]} == asked
    assert sum(met for met, _ in rows["layout_position_accuracy"].values()) == 2
    assert results["truth_object_presence"].value == 1
    evaluation.reset()
    assert evaluation.per_image() == {}


def test_two_systems_pair_by_image() -> None:
    batch = four_samples()
    first, second = (measure(bright, batch).per_image() for bright in ([True] * 4, [True, False, False, True]))
    found = paired_difference(first["word_accuracy"], second["word_accuracy"], np.random.default_rng(0))
    assert found is not None
    assert (found.value, found.n) == (-0.5, 4)


def test_the_module_keeps_the_per_image_rows(posters: Path) -> None:
    """Of the probes too, whose metrics are reset with their results."""
    module = tiny.stage(
        "vfe",
        evaluation=Evaluation(Brightness(), read_truth=False),
        sampler=ImageSampler(steps=1),
        layout_sampler=Sampler(steps=1),
        text_probe=3,
    )
    trainer = tiny.trainer(limit_test_batches=1)
    trainer.test(module, datamodule=tiny.data(posters, batch_size=4, test_root=str(posters)), verbose=False)
    assert isinstance(module, VFEModule)
    assert {"word_accuracy", "text_probe_all_text", "image_generator_probe_all_text"} <= module.rows.keys()
    assert len(module.rows["image_generator_probe_all_text"]) == 3
    assert module.rows["image_generator_probe_all_text"].keys() < module.rows["word_accuracy"].keys()
    for name, images in module.rows.items():
        part, whole = np.array(list(images.values())).sum(axis=0)
        assert module.results[name].value == pytest.approx(part / whole), name


def test_true_images_score_high_and_every_result_names_its_source(
    engine: OCREngine, evaluation_encoder: EvaluationEncoder, checkpoint: Path, batches: list[Batch]
) -> None:
    evaluation = Evaluation(engine, evaluation_encoder=evaluation_encoder)
    for batch in batches:
        evaluation.update(as_generated(batch), batch)
    with pytest.warns(UserWarning, match="8 images for 32 features"):
        results = evaluation.compute()
    assert results["word_accuracy"].value >= 0.9
    for name in ("word_accuracy", "sentence_accuracy", "mario_f"):
        assert results[name].value == results[f"truth_{name}"].value  # the same images
    assert results["layout_word_accuracy"].value >= 0.9
    assert results["layout_iou"].value > 0.95
    assert results["word_accuracy"].details == {"engine": engine.name}
    assert next(iter(results)) == "sentence_accuracy"
    assert {"edit_similarity", "cer", "mario_f", "clip_score_w1", "clip_score_w2_5"} <= set(results)
    assert any(name.startswith("background") for name in results)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for name in ("clip_score_w1", f"frechet_distance_stage0_{digest[:8]}", f"kernel_distance_stage0_{digest[:8]}"):
        assert results[name].details["network"] == f"stage0-{digest[:8]}"
        assert results[name].details["sha256"] == digest
    assert results[f"frechet_distance_stage0_{digest[:8]}"].value == pytest.approx(0, abs=1e-3)
    assert not {"fid", "kid"} & set(results)


def test_results_under_autocast_are_those_without(
    engine: OCREngine, evaluation_encoder: EvaluationEncoder, batches: list[Batch]
) -> None:
    """The precision of what is judged is not that of the evaluation encoder."""
    found = []
    for enabled in (False, True):
        evaluation = Evaluation(engine, evaluation_encoder=evaluation_encoder, read_truth=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            evaluation.update(as_generated(batches[1]), batches[0])
        with pytest.warns(UserWarning, match="4 images for 32 features"):
            found.append(evaluation.compute())
    assert found[0] == found[1]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = evaluation_encoder.embed_images(batches[0].images)
    assert not torch.equal(rounded, evaluation_encoder.embed_images(batches[0].images))  # it would make a difference


def test_marios_results_have_the_requirements_of_mario_eval(batches: list[Batch]) -> None:
    class Reader:
        name = "always the same"

        def read(self, images: torch.Tensor) -> list[list[str]]:
            return [["sign", "says"] for _ in images]

    batch = replace(batches[0], prompts=("the dogs' sign says 'AB'",) * 4)
    evaluation = Evaluation(Reader(), read_truth=False)
    evaluation.update(as_generated(batch), batch)
    results = evaluation.compute()
    assert (results["mario_accuracy"].value, results["word_accuracy"].value) == (1, 0)


def test_wrong_images_score_low(engine: OCREngine, evaluation_encoder: EvaluationEncoder, batches: list[Batch]) -> None:
    """The results look at the generated images, not at the batch: other posters do not answer these prompts."""
    evaluation = Evaluation(engine, evaluation_encoder=evaluation_encoder, read_truth=False)
    other = as_generated(batches[1])
    evaluation.update(other, batches[0])
    with pytest.warns(UserWarning, match="4 images for 32 features"):
        results = evaluation.compute()
    assert results["word_accuracy"].value < 0.3
    assert "truth_word_accuracy" not in results
    assert next(f.value for name, f in results.items() if name.startswith("frechet")) > 0.01


def test_reset_forgets(engine: OCREngine, evaluation_encoder: EvaluationEncoder, batches: list[Batch]) -> None:
    evaluation = Evaluation(engine, evaluation_encoder=evaluation_encoder, read_truth=False)
    evaluation.update(as_generated(batches[1]), batches[0])
    evaluation.reset()
    assert evaluation.compute() == {}
    evaluation.update(as_generated(batches[0]), batches[0])
    with pytest.warns(UserWarning, match="4 images for 32 features"):
        results = evaluation.compute()
    assert results["word_accuracy"].value >= 0.9
    assert results["clip_score_w1"].n == len(evaluation.per_image()["clip_score_w1"]) == 4


def test_without_layouts_and_networks_only_what_was_generated_is_measured(
    engine: OCREngine, batches: list[Batch]
) -> None:
    batch = batches[0]
    blank = torch.full_like(batch.images, -1)
    evaluation = Evaluation(engine, read_truth=False)
    evaluation.update(GeneratedImages(batch.images, (Layout.empty(),) * 4, blank, batch.prompts), batch)
    results = evaluation.compute()
    assert "word_accuracy" in results
    assert not [name for name in results if name.startswith(("layout", "truth", "clip", "frechet"))]


def test_evaluation_encoder_adds_nothing_to_the_checkpoint(
    engine: OCREngine, evaluation_encoder: EvaluationEncoder
) -> None:
    plain, measured = (
        tiny.stage("vfe"),
        tiny.stage("vfe", evaluation=Evaluation(engine, evaluation_encoder=evaluation_encoder)),
    )
    assert plain.state_dict().keys() == measured.state_dict().keys()
    assert len(list(plain.parameters())) == len(list(measured.parameters()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_module_tests_end_to_end(
    engine: OCREngine, evaluation_encoder: EvaluationEncoder, posters: Path, precision: str
) -> None:
    module = tiny.stage(
        "vfe", evaluation=Evaluation(engine, evaluation_encoder=evaluation_encoder), sampler=ImageSampler(steps=2)
    )
    assert isinstance(module, VFEModule)
    trainer = tiny.trainer(limit_test_batches=1, precision=precision)
    with pytest.warns(UserWarning, match="8 images for 32 features"):
        logged = trainer.test(module, datamodule=tiny.data(posters, test_root=str(posters)), verbose=False)[0]
    assert logged == {f"test/{name}": pytest.approx(f.value) for name, f in module.results.items()}
    assert logged["test/word_accuracy"] < 0.2  # untrained
    assert {"test/layout_word_accuracy", "test/truth_word_accuracy", "test/clip_score_w1"} <= set(logged)


def test_evaluation_encoder_folds_adapters(checkpoint: Path, tmp_path: Path) -> None:
    module = tiny.stage("alignment")
    adapted = tiny.alignment()
    adapted.prompt_encoder = tiny.prompt_encoder(tiny.LORA)
    for name, value in adapted.prompt_encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    path = tmp_path / "lora.ckpt"
    torch.save({"state_dict": adapted.state_dict(), "lora_scale": tiny.LORA.scale}, path)
    evaluation_encoder = EvaluationEncoder(str(path), tiny.prompt_encoder(tokenizer=False), tiny.image_encoder())
    with torch.no_grad():
        expected = adapted.prompt_encoder(["a red circle"]).pooled
    torch.testing.assert_close(evaluation_encoder.embed_texts(["a red circle"]), expected, atol=1e-5, rtol=1e-4)
    assert module is not adapted


def test_evaluation_encoder_is_frozen_and_embeds(evaluation_encoder: EvaluationEncoder) -> None:
    assert not any(value.requires_grad for value in evaluation_encoder.parameters())
    assert evaluation_encoder.embed_images(torch.zeros(2, 3, 64, 64)).shape == (2, tiny.WIDTH)
    assert evaluation_encoder.embed_texts(["a", "b", "c"]).shape == (3, tiny.WIDTH)


def test_evaluation_encoder_refuses_what_is_missing_or_of_another_stage(tmp_path: Path) -> None:
    parts = (tiny.prompt_encoder(tokenizer=False), tiny.image_encoder())
    with pytest.raises(FileNotFoundError, match=r"checkpoint='nowhere\.ckpt' does not exist"):
        EvaluationEncoder("nowhere.ckpt", *parts)
    torch.save({"state_dict": tiny.stage("tlg").state_dict()}, tmp_path / "stage1.ckpt")
    with pytest.raises(ValueError, match=r"stage1\.ckpt does not fit the prompt_encoder of this configuration"):
        EvaluationEncoder(str(tmp_path / "stage1.ckpt"), *parts)
