from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_clip import tiny_clip
from torch import Tensor, nn
from transformers import (
    CLIPModel,
)

from vlad_lightning.metrics.clip_score import CLIPScore, TransformersCLIP, clip_score, weights_sha256
from vlad_lightning.metrics.embedder import Embedder
from vlad_lightning.metrics.per_image import image_id


class Angles(nn.Module):
    """Images by their mean and texts by the number at their end, both as angles of unit vectors."""

    name, sha256 = "angles", "0" * 64

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[str] = []

    def embed_images(self, images: Tensor) -> Tensor:
        angles = images.mean(dim=(1, 2, 3))
        return 3 * torch.stack([angles.cos(), angles.sin()], dim=1) * self.weight

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.seen += texts
        angles = torch.tensor([float(text.split()[-1]) for text in texts])
        return 0.5 * torch.stack([angles.cos(), angles.sin()], dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("tiny-clip"))


def images(n: int, size: int = 16) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_clip_score_is_the_cosine_cut_at_zero() -> None:
    x = torch.tensor([[2.0, 0.0], [0.0, 5.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([[7.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.1, 0.0]])
    torch.testing.assert_close(clip_score(x, y), torch.tensor([1.0, 0.0, 0.0, math.sqrt(0.5)]))


def test_both_scalings_by_name() -> None:
    metric = CLIPScore(Angles())
    pictures = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    metric.update(pictures, ["1.1", "0.2"])
    results = metric.compute()
    mean = (math.cos(1.0) + 1) / 2
    assert results["clip_score_w1"].value == pytest.approx(mean, abs=1e-6)
    assert results["clip_score_w2_5"].value == pytest.approx(2.5 * mean, abs=1e-6)
    assert results["clip_score_w2_5"].details == {
        "network": "angles",
        "sha256": "0" * 64,
        "weight": 2.5,
        "prefix": "A photo depicts ",
    }
    assert {result.n for result in results.values()} == {2}


def test_per_image_rows_give_both_results() -> None:
    metric = CLIPScore(Angles())
    pictures = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    metric.update(pictures, ["1.1", "0.2"], ["a", "b"])
    rows = metric.per_image()
    assert rows["clip_score_w1"].keys() == {image_id("a"), image_id("b")}
    for name, result in metric.compute().items():
        part, whole = map(sum, zip(*rows[name].values(), strict=True))
        assert result.value == pytest.approx(part / whole)
    assert rows["clip_score_w2_5"][image_id("a")] == (pytest.approx(2.5 * math.cos(1.0), abs=1e-6), 1)


def test_equal_scores_have_an_interval_inside_their_range() -> None:
    metric = CLIPScore(Angles())
    metric.update(torch.zeros(9, 3, 4, 4), ["0"] * 9)
    for name, result in metric.compute().items():
        top = {"clip_score_w1": 1.0, "clip_score_w2_5": 2.5}[name]
        assert result.high == pytest.approx(top)
        assert result.low == pytest.approx(top * (1 - 3.8415 / 12.8415), abs=1e-4)


def test_the_prefix_stands_before_every_prompt() -> None:
    default, bare = Angles(), Angles()
    CLIPScore(default).update(torch.zeros(1, 3, 4, 4), ["5"])
    CLIPScore(bare, prefix="").update(torch.zeros(1, 3, 4, 4), ["5"])
    assert (default.seen, bare.seen) == (["A photo depicts 5"], ["5"])


def test_the_evaluation_encoder_is_neither_saved_nor_trained_with_the_module_that_measures() -> None:
    evaluation_encoder = Angles()
    module = nn.ModuleDict({"metric": CLIPScore(evaluation_encoder)})
    assert not module.state_dict()
    assert not list(module.parameters())
    module.train()
    assert not evaluation_encoder.training
    assert not evaluation_encoder.weight.requires_grad


def test_the_encoder_equals_transformers_clip(folder: Path) -> None:
    evaluation_encoder = TransformersCLIP(str(folder))
    assert isinstance(evaluation_encoder, Embedder)
    pictures, texts = images(2), ["red photo", "blue"]
    model = CLIPModel.from_pretrained(folder).eval()
    mean, std = (
        torch.tensor(getattr(evaluation_encoder.processor.image_processor, f"image_{k}")).view(3, 1, 1)
        for k in ("mean", "std")
    )
    pixels = (((pictures + 1) * 127.5).round() / 255 - mean) / std
    ids = torch.tensor([[1, 7, 5, 2], [1, 8, 2, 0]])
    with torch.no_grad():
        expected = model(input_ids=ids, pixel_values=pixels, attention_mask=(ids != 0).long())
    cosines = clip_score(evaluation_encoder.embed_images(pictures), evaluation_encoder.embed_texts(texts))
    torch.testing.assert_close(cosines, (expected.image_embeds * expected.text_embeds).sum(1).clamp(min=0))


def test_scores_under_autocast_are_those_without(folder: Path) -> None:
    scores = []
    for enabled in (False, True):
        metric = CLIPScore(TransformersCLIP(str(folder)))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            metric.update(images(4), ["red photo", "blue", "red", "a blue photo"])
        scores.append(metric.table()["score"].tolist())
    evaluation_encoder = TransformersCLIP(str(folder))
    texts = evaluation_encoder.embed_texts(
        [f"A photo depicts {text}" for text in ("red photo", "blue", "red", "a blue photo")]
    )
    assert (
        scores[0] == scores[1] == pytest.approx(clip_score(evaluation_encoder.embed_images(images(4)), texts).tolist())
    )


def test_images_of_another_size_are_resized_and_long_texts_cut(folder: Path) -> None:
    evaluation_encoder = TransformersCLIP(str(folder))
    assert evaluation_encoder.embed_images(images(3, 40)).shape == (3, 12)
    edges = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    assert torch.equal(
        evaluation_encoder.embed_images(1.3 * edges), evaluation_encoder.embed_images(edges)
    )  # an image generator may overshoot the range
    long, cut = evaluation_encoder.embed_texts(["red " * 50]), evaluation_encoder.embed_texts(["red " * 6])
    torch.testing.assert_close(long, cut)


def test_results_name_the_clip_and_its_weights(folder: Path) -> None:
    metric = CLIPScore(TransformersCLIP(str(folder)))
    metric.update(images(4), ["red", "blue", "red", "blue"])
    details = metric.compute()["clip_score_w1"].details
    assert details["network"] == "clip " + folder.name
    assert details["sha256"] == weights_sha256(CLIPModel.from_pretrained(folder))


def test_the_hash_is_of_the_weights() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second)


def test_the_hash_distinguishes_equal_numbers_in_another_place_or_shape() -> None:
    wide, high = nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        high.weight.copy_(wide.weight.view(3, 2))
    renamed = nn.ModuleDict({"other": wide})
    assert len({weights_sha256(network) for network in (wide, high, renamed)}) == 3


def test_a_hub_id_needs_its_revision() -> None:
    with pytest.raises(ValueError, match="revision is None"):
        TransformersCLIP("openai/some-clip")


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    torch.save(CLIPModel.from_pretrained(folder).state_dict(), tmp_path / "pytorch_model.bin")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "clip"
    with pytest.raises(OSError, match="safetensors"):
        TransformersCLIP(str(tmp_path))


def test_no_images_no_results_and_unequal_numbers() -> None:
    metric = CLIPScore(Angles())
    metric.update(torch.zeros(0, 3, 4, 4), [])
    assert metric.compute() == {}
    with pytest.raises(ValueError, match="prompts has 2 entries"):
        metric.update(torch.zeros(1, 3, 4, 4), ["1", "2"])


def test_a_folder_whose_sizes_contradict_each_other_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "clip")
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["intermediate_size"] += 8
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{copy} cannot be used: "):
        TransformersCLIP(str(copy))
