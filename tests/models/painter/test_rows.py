from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vlad_lightning.layout.masks import box_coordinates
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.models.painter.phrase_map import Grounding, PhraseMap
from vlad_lightning.models.painter.rows import split_rows

SIZE, WIDTH = (64, 64), 8


@given(
    count=st.integers(2, 4),
    gap=st.floats(0.0, 0.5),
    ratio=st.floats(0.5, 2.0),
    lies=st.booleans(),
    angle=st.sampled_from([0.0, 0.3, -1.2]),
)
def test_each_object_of_a_row_has_its_own_coordinates(
    count: int, gap: float, ratio: float, lies: bool, angle: float
) -> None:
    """Inside each object's box the coordinates are those of that box alone."""
    height = 0.16
    width = ratio * height
    item, other = (width, height) if lies else (height, width)
    pitch = item * (1 + gap)
    length = item + (count - 1) * pitch
    assume(1.01 * other < length < 1 and item > 0.26 * length / count)  # in the frame, and not squeezed
    sides = (length, other) if lies else (other, length)
    around = torch.tensor([[[0.5, 0.5, *sides, angle]]])
    cells = around[..., 2:4] * torch.tensor([SIZE[1], SIZE[0]])
    across, down, cover = split_rows(
        *box_coordinates(around, SIZE), cells, torch.tensor([[count]]), torch.tensor([[ratio]])
    )
    turn = torch.tensor(angle)
    for number in range(count):
        offset = (number - (count - 1) / 2) * pitch
        along = (offset, 0.0) if lies else (0.0, offset)
        centre = (
            0.5 + along[0] * float(turn.cos()) - along[1] * float(turn.sin()),
            0.5 + along[0] * float(turn.sin()) + along[1] * float(turn.cos()),
        )
        own = box_coordinates(torch.tensor([[[*centre, width, height, angle]]]), SIZE)
        inside = (own[0].abs() < 0.9) & (own[1].abs() < 0.9)
        assert inside.any()
        torch.testing.assert_close(across[inside], own[0][inside], atol=1e-3, rtol=0)
        torch.testing.assert_close(down[inside], own[1][inside], atol=1e-3, rtol=0)
        torch.testing.assert_close(cover[inside], own[2][inside], atol=1e-3, rtol=0)


def test_between_the_objects_of_a_row_nothing_is_covered() -> None:
    around = torch.tensor([[[0.5, 0.5, 0.75, 0.25, 0.0]]])
    cells = around[..., 2:4] * 64
    *_, cover = split_rows(*box_coordinates(around, SIZE), cells, torch.tensor([[2]]), torch.ones(1, 1))
    squares = torch.zeros(64)
    squares[8:24] = squares[40:56] = 1  # of 16 cells, at both ends
    torch.testing.assert_close(cover[0, 0, 32], squares, atol=1e-4, rtol=0)


def a_map(rows: bool = True) -> PhraseMap:
    torch.manual_seed(0)
    made = PhraseMap(WIDTH, side=4, width=16, picture=True, opacity_side=8, rows=rows)
    if rows:
        torch.nn.init.zeros_(made.draw[-1].weight[-1])  # objects as wide as they are high
        torch.nn.init.zeros_(made.draw[-1].bias[-1:])
    return made


@pytest.mark.parametrize("lies", [True, False])
def test_a_row_is_drawn_as_its_objects_alone(lies: bool) -> None:
    phrase = torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    sides = (0.75, 0.25) if lies else (0.25, 0.75)
    row = Grounding(phrase, torch.tensor([[[0.5, 0.5, *sides, 0.0]]]), torch.ones(1, 1).bool(), torch.tensor([[2]]))
    places = [(x, 0.5) if lies else (0.5, x) for x in (0.25, 0.75)]
    boxes = torch.tensor([[[*place, 0.25, 0.25, 0.0] for place in places]])
    each = Grounding(phrase.expand(1, 2, WIDTH), boxes, torch.ones(1, 2).bool(), torch.ones(1, 2).long())
    made = a_map()
    with torch.no_grad():
        torch.testing.assert_close(made(row, SIZE), made(each, SIZE), atol=1e-5, rtol=1e-4)
        alone = a_map(rows=False)
        assert not torch.allclose(made(row, SIZE), alone(row, SIZE), atol=0.1)


def test_counts_of_one_change_nothing() -> None:
    phrases = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    boxes = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
    mask = torch.ones(2, 3).bool()
    counted, plain = (Grounding(phrases, boxes, mask, counts) for counts in (torch.ones(2, 3).long(), None))
    with torch.no_grad():
        assert torch.equal(a_map()(counted, SIZE), a_map()(plain, SIZE))


def test_the_ratio_of_the_sides_is_learned() -> None:
    """The gradient of a row's picture reaches the number that says how wide its objects are."""
    phrase = torch.randn(1, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    row = Grounding(phrase, torch.tensor([[[0.5, 0.5, 0.9, 0.3, 0.0]]]), torch.ones(1, 1).bool(), torch.tensor([[2]]))
    made = a_map()
    made.encode(row, SpaceToDepth(2), (64, 64), (32, 32)).square().mean().backward()
    assert made.draw[-1].weight.grad is not None
    assert made.draw[-1].weight.grad[-1].abs().max() > 0
