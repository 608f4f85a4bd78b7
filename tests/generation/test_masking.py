from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.generation.masking import Masking
from vlad_lightning.layout.masks import box_masks, grown
from vlad_lightning.types import Layout

SIZE = (32, 32)
TWO = Layout(("a", "b"), torch.tensor([[0.3, 0.25, 0.3, 0.1, 0.2], [0.6, 0.75, 0.5, 0.1, 0.0]]))
ONE = Layout(("c",), torch.tensor([[0.5, 0.5, 0.6, 0.2, 0.0]]))


def draw(masking: Masking, *layouts: Layout, seed: int = 0) -> Tensor:
    return masking.draw(layouts, SIZE, SampleGenerators.of_rows("cpu", (seed,), range(len(layouts)), len(layouts)))


def test_the_shares_of_masked_samples_are_met() -> None:
    masks = draw(Masking(share=0.3), *[ONE, Layout.empty()] * 1000)
    assert masks.dtype == torch.bool
    assert masks.shape == (2000, 1, *SIZE)
    whole = masks.flatten(1).all(dim=1)
    assert whole.float().mean().item() == pytest.approx(0.7, abs=0.04)
    assert masks.flatten(1).any(dim=1).all()
    word = box_masks(grown(ONE.boxes, 0.25)[None], torch.ones(1, 1, dtype=torch.bool), SIZE)[0]
    by_word = (masks[::2] == word).flatten(1).all(dim=1)
    assert by_word.float().mean().item() == pytest.approx(0.15, abs=0.04)
    assert draw(Masking(share=0.0), TWO).all()


def test_words_are_masked_one_by_one_or_together() -> None:
    masks = draw(Masking(share=1.0, word_share=1.0, margin=0.0), *[TWO] * 400)
    boxes = TWO.boxes[None].expand(3, -1, -1)
    expected = box_masks(boxes, torch.tensor([[True, False], [False, True], [True, True]]), SIZE)
    shares = [(masks == one).flatten(1).all(dim=1).float().mean().item() for one in expected]
    assert sum(shares) == pytest.approx(1)  # nothing else
    # each with 1/2, and one of them if neither is drawn: 3/8, 3/8, 1/4
    assert shares == pytest.approx([0.375, 0.375, 0.25], abs=0.08)


def test_rectangles_lie_in_the_frame_and_have_their_sides() -> None:
    masks = draw(Masking(share=1.0, word_share=0.0, min_side=0.25, max_side=0.5), *[Layout.empty()] * 300)
    rows, columns = masks[:, 0].any(dim=2).sum(dim=1), masks[:, 0].any(dim=1).sum(dim=1)
    for sides in (rows, columns):
        assert 7 <= sides.min() <= 9
        assert 15 <= sides.max() <= 17
    assert torch.equal(masks.flatten(1).sum(dim=1), rows * columns)  # one rectangle each
    reached = masks.any(dim=0)[0]
    assert reached[2:-2, 2:-2].all()
    assert all(side.any() for side in (reached[0], reached[-1], reached[:, 0], reached[:, -1]))


def test_a_rectangle_replaces_a_word_outside_the_frame() -> None:
    away = Layout(("x",), torch.tensor([[3.0, 3.0, 0.2, 0.2, 0.0]]))
    masks = draw(Masking(share=1.0, word_share=1.0), *[away, ONE] * 20)
    assert masks.flatten(1).any(dim=1).all()


def test_the_generators_determine_the_masks() -> None:
    assert torch.equal(draw(Masking(), TWO, ONE), draw(Masking(), TWO, ONE))
    assert not torch.equal(draw(Masking(), *[TWO] * 8), draw(Masking(), *[TWO] * 8, seed=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.5}, r"share is 1\.5; it must lie in \[0, 1\]"),
        ({"word_share": -0.1}, r"word_share is -0\.1; it must lie"),
        ({"margin": -1.0}, r"margin is -1\.0; it must be at least 0"),
        ({"min_side": 0.9}, r"min_side and max_side are 0\.9 and 0\.8; 0 < min_side <= max_side <= 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Masking(**values)
