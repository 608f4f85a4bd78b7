from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vlad_lightning.callbacks.grid import layout_grid, sample_grid
from vlad_lightning.types import Layout


def shown(figure: Figure) -> list[Any]:
    return [axis for axis in figure.axes if axis.get_visible()]


def geometry_of(figure: Figure) -> tuple[int, int]:
    """(rows, columns)."""
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    rows, columns = grid.get_geometry()
    return rows, columns


def test_images_are_in_rows_with_their_captions() -> None:
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 4 - 2  # also outside [-1, 1]
    figure = sample_grid(images, [f"word {i}" for i in range(5)], columns=3)
    axes = shown(figure)
    assert len(figure.axes) == 6
    assert [axis.get_xlabel() for axis in axes] == [f"word {i}" for i in range(5)]
    assert geometry_of(figure) == (2, 3)
    for axis, image in zip(axes, images, strict=True):
        pixels = np.asarray(axis.images[0].get_array())
        expected = ((image + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy()
        assert pixels.dtype == np.uint8  # matplotlib truncates floats instead of rounding them
        np.testing.assert_allclose(pixels, expected, atol=0.501)


@pytest.mark.parametrize(
    ("size", "columns", "geometry"), [(1, 8, (1, 1)), (2, 8, (1, 2)), (8, 4, (2, 4)), (3, 1, (3, 1))]
)
def test_the_grid_has_no_more_cells_than_needed(size: int, columns: int, geometry: tuple[int, int]) -> None:
    figure = sample_grid(torch.zeros(size, 3, 2, 2), [""] * size, columns)
    assert geometry_of(figure) == geometry
    assert len(shown(figure)) == size


def test_a_long_caption_makes_its_row_higher_and_no_other() -> None:
    short, long = (sample_grid(torch.zeros(4, 3, 2, 2), ["a", "b", text, "d"], 2) for text in ("c", "c\nc\nc"))
    assert long.get_figwidth() == short.get_figwidth()
    assert long.get_figheight() == pytest.approx(short.get_figheight() + 2 * 0.13)


@pytest.mark.parametrize("long", ["WWW MMM " * 30, "illicit till lit " * 9, "W" * 60, "a poster\n" + "with words " * 8])
def test_no_caption_reaches_its_neighbours(long: str) -> None:
    """Capitals are wide, and `ill` is narrow: a line is as wide as its letters are, and words remain whole."""
    figure = sample_grid(torch.zeros(6, 3, 8, 8), [long] * 6, columns=3)
    FigureCanvasAgg(figure).draw()
    spans = [(axis.xaxis.label.get_window_extent(), axis.get_window_extent()) for axis in shown(figure)]
    for (left, _), (right, _) in itertools.pairwise(spans[:3]):
        assert left.x1 < right.x0
    assert all(caption.y0 >= 0 for caption, _ in spans)  # nothing is cut off
    assert spans[0][0].y0 > spans[3][1].y1  # the next row begins below
    assert max(caption.width for caption, _ in spans) > 0.7 * spans[0][1].width  # the room is used
    assert shown(figure)[0].get_xlabel().replace("\n", " ").split() == long.split() or " " not in long


def test_a_layout_is_drawn_as_quads_and_words() -> None:
    layout = Layout(("TOP", "down"), torch.tensor([[0.5, 0.2, 0.6, 0.1, 0.0], [0.2, 0.6, 0.5, 0.1, math.pi / 2]]))
    figure = layout_grid([layout, Layout.empty()], ["two words", "none"])
    full, empty = shown(figure)
    corners = np.stack([patch.get_xy()[:4] for patch in full.patches])
    np.testing.assert_allclose(corners, layout.quads().numpy(), atol=1e-6)
    assert [text.get_text() for text in full.texts] == ["TOP", "down"]
    assert [text.get_position() for text in full.texts] == [
        (pytest.approx(0.5), pytest.approx(0.2)),
        (pytest.approx(0.2), pytest.approx(0.6)),
    ]
    assert full.get_ylim() == (1, 0)  # the top of the frame is at the top
    assert not empty.patches
    assert empty.get_xlabel() == "none"


def test_dollar_signs_in_words_are_not_formulas() -> None:
    """Matplotlib would read `$_$` as broken mathematics, and raise while drawing."""
    layout = Layout(("$_$",), torch.tensor([[0.5, 0.5, 0.5, 0.2, 0.0]]))
    for figure in (layout_grid([layout], ["$^$"]), sample_grid(torch.zeros(1, 3, 2, 2), ["$^$"])):
        FigureCanvasAgg(figure).draw()
        assert shown(figure)[0].get_xlabel() == "$^$"
