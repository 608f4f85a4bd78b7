from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from vlad_lightning.metrics import polygons
from vlad_lightning.types import Layout

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def shapes(boxes: torch.Tensor) -> polygons.Polygons:
    return polygons.polygons_of(Layout(("",) * len(boxes), boxes.double()).quads().numpy())


def shape(*quads: np.ndarray) -> polygons.Polygons:
    return polygons.polygons_of(np.stack(quads))


def random_boxes(n: int, seed: int, turned: bool = True) -> torch.Tensor:
    generators = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sizes, angle = 0.05 + 0.6 * generators[:, 2:4], (generators[:, 4:] - 0.5) * 2 * torch.pi * turned
    return torch.cat([generators[:, :2], sizes, angle], dim=1)


def inside(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether points (N, 2) lie in a rotated box (5,), by turning them back: no polygons involved."""
    cos, sin = np.cos(box[4]), np.sin(box[4])
    local = (points - box[:2]) @ np.array([[cos, -sin], [sin, cos]])
    return (np.abs(local) <= box[2:4] / 2).all(axis=1)


def test_axis_aligned_iou_is_torchvisions() -> None:
    first, second = random_boxes(15, 0, turned=False), random_boxes(15, 1, turned=False)
    expected = box_iou(first[:, :4], second[:, :4], fmt="cxcywh")
    got = polygons.iou(shapes(first)[:, None], shapes(second)[None])
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-12)
    assert (expected > 0.1).sum() > 20


def test_rotated_intersection_is_monte_carlos() -> None:
    points = np.random.default_rng(0).random((200_000, 2)) * 2 - 0.5  # an area of 4
    first, second = random_boxes(12, 2), random_boxes(12, 3)
    expected = [
        4 * (inside(points, a) & inside(points, b)).mean() for a, b in zip(first.numpy(), second.numpy(), strict=True)
    ]
    assert polygons.shared_areas(shapes(first), shapes(second)) == pytest.approx(expected, abs=5e-3)


def test_covered_area_is_of_the_union() -> None:
    points = np.random.default_rng(1).random((200_000, 2)) * 2 - 0.5
    for seed in range(4, 12):
        boxes = random_boxes(4, seed)
        under = np.stack([inside(points, box) for box in boxes.numpy()])
        expected = 4 * (under[0] & under[1:].any(axis=0)).mean()
        assert polygons.covered_areas(shapes(boxes))[0] == pytest.approx(expected, abs=5e-3)


def test_what_is_covered_twice_counts_once() -> None:
    left = SQUARE * [0.5, 1]
    assert polygons.covered_areas(shape(SQUARE, left, left)) == pytest.approx([0.5, 0.5, 0.5])


def test_the_area_of_a_box_is_its_width_times_its_height() -> None:
    boxes = random_boxes(20, 20)
    assert polygons.areas(shapes(boxes)) == pytest.approx((boxes[:, 2] * boxes[:, 3]).numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (SQUARE, 1.0),
        (SQUARE + np.array([1, 0]), 0.0),  # a shared edge
        (SQUARE + np.array([1, 1]), 0.0),  # a shared corner
        (SQUARE + 5, 0.0),
        (SQUARE * 0.5 + 0.25, 0.25),  # nested
        (SQUARE * [1, 0], 0.0),  # flat
        (np.zeros((4, 2)), 0.0),  # a point
        (SQUARE * np.nan, 0.0),
        (SQUARE + np.array([0, np.inf]), 0.0),
    ],
)
def test_special_cases(other: np.ndarray, iou: float) -> None:
    assert polygons.iou(shape(SQUARE), shape(other)) == pytest.approx([iou])
    assert polygons.iou(shape(other), shape(SQUARE)) == pytest.approx([iou])


def test_flat_polygons_cover_nothing() -> None:
    assert polygons.covered_areas(shape(SQUARE, SQUARE * [1, 0], np.zeros((4, 2)))).tolist() == [0, 0, 0]
