"""Areas of rotated boxes and of their intersections, by shapely, in float64.

``torchvision.ops.box_iou`` supports rotated boxes, but only pairs (the area covered by several others needs their
union), and for one of 90,000 random pairs it returned 0 instead of 0.04.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Polygons = NDArray[np.object_]
"""(N,) polygons of shapely."""
Areas = NDArray[np.float64]

FRAME = shapely.box(0, 0, 1, 1)
"""The whole image."""


def polygons_of(quads: NDArray[np.float64]) -> Polygons:
    """Convert boxes to polygons; a box with a corner that is not finite has no area.

    Args:
        quads: (N, 4, 2), as returned by :meth:`~vlad_lightning.types.Layout.quads`.
    """
    finite = np.isfinite(quads).all(axis=(1, 2), keepdims=True)
    return np.asarray(shapely.polygons(np.where(finite, quads, 0.0)))


def areas(polygons: Polygons) -> Areas:
    """Return the area of each polygon, (N,)."""
    return np.asarray(shapely.area(polygons))


def shared_areas(first: Polygons, second: Polygons | shapely.Polygon) -> Areas:
    """Return the area that two polygons share, pair by pair, (N,)."""
    return areas(shapely.intersection(first, second))


def covered_areas(polygons: Polygons) -> Areas:
    """Return the area of each polygon that the union of the others covers, (N,)."""
    unions = [shapely.union_all(np.delete(polygons, i)) for i in range(len(polygons))]
    return shared_areas(polygons, np.array(unions, dtype=object))


def iou(first: Polygons, second: Polygons) -> Areas:
    """Return the intersection over union in [0, 1], pair by pair, (N,); 0 where neither has an area."""
    shared = shared_areas(first, second)
    union = areas(first) + areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
