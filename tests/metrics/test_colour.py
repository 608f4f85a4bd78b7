from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.metrics.colour import BackgroundColour, border_colours, requested_background


def plain(name: str, size: int = 48) -> torch.Tensor:
    """Make a (3, size, size) float image in [-1, 1] of one colour."""
    return (torch.tensor(PALETTE[name]) / 127.5 - 1).view(3, 1, 1).expand(3, size, size).clone()


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [
        ('a red circle on a green background, with the text "HI"', "green"),
        ("a card on a striped dark green gradient background", "green"),
        ("a card on an orange gradient background", "orange"),
        ("On A BLUE Background", "blue"),
        ("a blue square on a noisy background", None),
        ("a blue square", None),
        ("a redder background", None),
        ("infrared background", None),
        ("a background of blue", None),
    ],
)
def test_the_requested_background_is_read(prompt: str, colour: str | None) -> None:
    assert requested_background(prompt) == colour


@pytest.mark.parametrize("name", PALETTE)
def test_every_colour_is_seen_around_an_object_and_through_noise(name: str) -> None:
    image = plain(name)
    image[:, 4:-4, 4:-4] = plain("white" if name == "black" else "black", 40)
    image += 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    assert border_colours(image[None]) == [name]


def test_an_object_may_reach_the_border() -> None:
    image = plain("yellow")
    image[:, :, :20] = plain("blue")[:, :, :20]
    assert border_colours(image[None]) == ["yellow"]
    image[:, :, :40] = plain("blue")[:, :, :40]
    assert border_colours(image[None]) == ["blue"]


@pytest.mark.parametrize("size", [(24, 96), (96, 24)])
def test_the_border_of_a_picture_that_is_not_square(size: tuple[int, int]) -> None:
    height, width = size
    image = torch.nn.functional.interpolate(plain("green")[None], size)[0]
    down, across = height // 12, width // 12
    image[:, down:-down, across:-across] = image.new_tensor(PALETTE["purple"]).view(3, 1, 1) / 127.5 - 1
    assert border_colours(image[None]) == ["green"]


def test_metric_counts_only_prompts_that_name_a_colour() -> None:
    images = torch.stack([plain("red"), plain("red"), plain("red")])
    metric = BackgroundColour()
    metric.update(images, ["on a red background", "on a blue background", "anything"])
    result = metric.compute()["background_colour"]
    assert (result.value, result.n) == (0.5, 2)


def test_without_such_prompts_there_is_no_result() -> None:
    metric = BackgroundColour()
    assert metric.compute() == {}
    metric.update(plain("red")[None], ["anything"])
    assert metric.compute() == {}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="prompts has 1 entries"):
        BackgroundColour().update(torch.zeros(2, 3, 8, 8), ["x"])
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\)"):
        border_colours(torch.zeros(3, 8, 8))


def test_synthetic_posters_have_the_background_of_their_caption(tmp_path: Path) -> None:
    write_posters(tmp_path / "posters", 100, size=64, seed=1, workers=1, charseg=False)
    samples = sorted((tmp_path / "posters").glob("*/*/image.jpg"))
    pictures = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) for path in samples]
    metric = BackgroundColour()
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    metric.update(images, [(path.parent / "caption.txt").read_text() for path in samples])
    result = metric.compute()["background_colour"]
    assert 70 <= result.n < 100  # some captions name no background
    assert result.value >= 0.99
