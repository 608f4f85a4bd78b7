from __future__ import annotations

import math

import torch
from matplotlib.path import Path as Polygon

from vlad_lightning.layout.masks import FRAME, box_coordinates, box_masks, fills_frame, grown
from vlad_lightning.types import Layout


def test_pixels_whose_centres_lie_in_a_turned_box_are_masked() -> None:
    """Compare with matplotlib's point in polygon."""
    boxes = torch.tensor([[[0.4, 0.5, 0.5, 0.2, 0.6], [0.8, 0.2, 0.3, 0.1, -2.0]]])
    found = box_masks(boxes, torch.ones(1, 2, dtype=torch.bool), (48, 48))
    assert found.shape == (1, 1, 48, 48)
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    centres = torch.stack([x, y], dim=-1).view(-1, 2) / 48
    expected = torch.zeros(48 * 48, dtype=torch.bool)
    for quad in Layout(("a", "b"), boxes[0]).quads():
        expected |= torch.from_numpy(Polygon(quad.numpy()).contains_points(centres.numpy()))
    assert (found.view(-1) != expected).sum() <= 2  # a centre on an edge


def test_unkept_boxes_do_not_count() -> None:
    boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0, 0.0], [0.75, 0.5, 0.5, 1.0, 0.0]]]).expand(3, -1, -1)
    kept = torch.tensor([[True, False], [False, True], [False, False]])
    left, right, none = box_masks(boxes, kept, (4, 6))[:, 0]
    assert left.tolist() == [[True] * 3 + [False] * 3] * 4
    assert torch.equal(right, ~left)
    assert not none.any()


def test_a_frame_that_is_not_square_has_its_own_pixels() -> None:
    whole = box_masks(torch.tensor([[[0.5, 0.5, 0.5, 0.5, 0.0]]]), torch.ones(1, 1, dtype=torch.bool), (4, 8))
    assert whole.sum() == 8
    assert whole[0, 0, 1:3, 2:6].all()


def test_boxes_that_cover_three_quarters_fill_the_frame() -> None:
    boxes = torch.tensor([[FRAME, (0.5, 0.5, 0.9, 0.8, 0.0)], [(0.5, 0.5, 0.9, 0.9, 0.1), (0.5, 0.5, 1.0, 0.3, 0.0)]])
    assert fills_frame(boxes).tolist() == [[True, False], [True, False]]


def test_growing_adds_heights_on_every_side() -> None:
    box = torch.tensor([0.5, 0.5, 0.4, 0.1, math.pi / 2])
    torch.testing.assert_close(grown(box, 0.25), torch.tensor([0.5, 0.5, 0.45, 0.15, math.pi / 2]))
    assert box[2] == torch.tensor(0.4)


def test_edges_are_about_one_cell_wide_in_a_frame_that_is_not_square() -> None:
    """A cell is a twentieth of the frame wide and a tenth high; its coverage is its share of the box."""
    box = torch.tensor([[[0.5, 0.5, 0.53, 0.46, 0.0]]])
    cover = box_coordinates(box, (10, 20))[2][0, 0]

    def share(places: int, size: float) -> torch.Tensor:
        edges = torch.arange(places + 1) / places
        inside = edges[1:].clamp(max=0.5 + size / 2) - edges[:-1].clamp(min=0.5 - size / 2)
        return inside.clamp(min=0) * places

    torch.testing.assert_close(cover, share(10, 0.46)[:, None] * share(20, 0.53), rtol=0, atol=1e-5)
