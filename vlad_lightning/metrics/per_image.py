"""The state that the metrics share: one row of numbers an image, gathered over processes before figures are made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from vlad_lightning.types import Figure


class _Closed:
    """Carries a result through torchmetrics, which would take frozen dataclasses apart to squeeze tensors in them."""

    def __init__(self, figures: dict[str, Figure]) -> None:
        self.figures = figures


class FigureMetric(Metric):
    """A metric whose ``compute`` returns :class:`~vlad_lightning.types.Figure` objects by name; ``{}`` without data."""

    is_differentiable = False
    full_state_update = False

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def close(*args: Any, **kwargs: Any) -> _Closed:
            return _Closed(compute(*args, **kwargs))

        wrapped = super()._wrap_compute(close)

        def open_again(*args: Any, **kwargs: Any) -> dict[str, Figure]:
            with warnings.catch_warnings():  # nothing to measure is no mistake: it gives no figures
                warnings.filterwarnings("ignore", r"The ``compute`` method of metric \w+ was called before")
                return wrapped(*args, **kwargs).figures

        return open_again


class PerImageMetric(FigureMetric):
    """A metric that keeps the numbers named in ``columns`` for every image.

    Args:
        seed: of the bootstrap's random generator; the same seed and images give the same intervals.

    The state is flat and of the metric's own dtype, because a process that has seen no image joins the gathering with
    an empty vector of that dtype, and only equal ranks and dtypes can be gathered.
    """

    columns: ClassVar[tuple[str, ...]]
    rows: list[Tensor]

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.add_state("rows", [], dist_reduce_fx="cat")

    def append(self, rows: Tensor) -> None:
        """Keep ``rows`` (n_images, len(columns)) float.

        Raises:
            ValueError: if they have another width.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise ValueError(f"rows has shape {tuple(rows.shape)}; (n, {len(self.columns)}) is needed: {self.columns}")
        self.rows.append(rows.to(self.device, self.dtype).flatten())

    def table(self) -> dict[str, NDArray[np.float64]]:
        """Every column (n_images,) float64 by name."""
        flat = dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0)
        values = flat.detach().to("cpu", torch.float64).reshape(-1, len(self.columns)).numpy()
        return {name: values[:, i] for i, name in enumerate(self.columns)}

    def generator(self) -> np.random.Generator:
        """A fresh generator for the bootstrap, so that computing twice gives the same."""
        return np.random.default_rng(self.seed)
