"""Base classes of the metrics: the state is one row of numbers per image, gathered over processes.

The rows give a result (:meth:`PerImageMetric.compute`) and what each image adds to it
(:meth:`PerImageMetric.per_image`), so that two systems can be compared image by image (``metrics.paired``).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.types import MetricResult

_ID_BYTES = 8


def image_id(key: str) -> str:
    """Return the name of an image in the rows: the first 16 hexadecimal digits of the SHA-256 of its key in UTF-8.

    It has a fixed length, so that processes can gather it as numbers, and is the same in every run.

    Example:
        >>> image_id("00000_000000123")
        '9972e4cf92af6473'
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[: 2 * _ID_BYTES]


@dataclass(frozen=True)
class Share:
    """Numerator and denominator of a result, image by image: the sum of ``part`` over the sum of ``whole``.

    Attributes:
        part: (n_images,) float64: what each image adds to the numerator.
        whole: (n_images,) float64, not negative: what each image adds to the denominator. An image with zero in both
            does not count.
        n: how many items the share is over; None means the sum of ``whole``.
        most: see :func:`~vlad_lightning.metrics.bootstrap.ratio_result`; None for a ratio without a bound.
    """

    part: NDArray[np.float64]
    whole: NDArray[np.float64]
    n: int | None = None
    most: float | None = 1.0


def share_results(shares: Mapping[str, Share], rng: np.random.Generator) -> dict[str, MetricResult]:
    """Compute the result of each share, by name; shares with nothing in the denominator are left out."""
    return {
        name: ratio_result(share.part, share.whole, rng, n=share.n, most=share.most)
        for name, share in shares.items()
        if share.whole.any()
    }


def by_image(share: Share, ids: Sequence[str]) -> PerImage:
    """Return part and whole by image; those of an image that occurs twice are added, as in the result.

    Args:
        share: share over n images.
        ids: n names; images with the name "" are left out.
    """
    sums: dict[str, tuple[float, float]] = {}
    for name, part, whole in zip(ids, share.part.tolist(), share.whole.tolist(), strict=True):
        if name:
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + part, before[1] + whole)
    return sums


class _Closed:
    """Wrapper that carries results through torchmetrics, which would rebuild frozen dataclasses to squeeze tensors."""

    def __init__(self, results: dict[str, MetricResult]) -> None:
        self.results = results


class ResultMetric(Metric):
    """A metric whose ``compute`` returns a :class:`~vlad_lightning.types.MetricResult` by name; ``{}`` without data."""

    is_differentiable = False
    full_state_update = False

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def close(*args: Any, **kwargs: Any) -> _Closed:
            return _Closed(compute(*args, **kwargs))

        wrapped = super()._wrap_compute(close)

        def open_again(*args: Any, **kwargs: Any) -> dict[str, MetricResult]:
            with warnings.catch_warnings():  # having nothing to measure is no error: there are no results
                warnings.filterwarnings("ignore", r"The ``compute`` method of metric \w+ was called before")
                return wrapped(*args, **kwargs).results

        return open_again


class PerImageMetric(ResultMetric):
    """A metric that keeps the numbers named in ``columns`` for every image.

    Its results are those of :meth:`shares`, unless it overrides ``compute``.

    Args:
        seed: seed of the bootstrap's random generator; the same seed and images give the same intervals.

    The state is flat and has the metric's own dtype, because a process without images takes part in the gather with an
    empty vector of that dtype, and only tensors of equal rank and dtype can be gathered. So an image's name is stored
    in its row as numbers, one per byte of :func:`image_id`, which every floating dtype holds exactly; -1 is no name.
    """

    columns: ClassVar[tuple[str, ...]]
    rows: list[Tensor]

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.add_state("rows", [], dist_reduce_fx="cat")

    def append(self, rows: Tensor, keys: Sequence[str] = ()) -> None:
        """Keep rows of numbers.

        Args:
            rows: (n_images, len(columns)) float.
            keys: the images' names; without them the rows count in the results but not in :meth:`per_image`.

        Raises:
            ValueError: if the rows have another width, or there are keys but not one for each row.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise ValueError(f"rows has shape {tuple(rows.shape)}; (n, {len(self.columns)}) is needed: {self.columns}")
        if len(keys) not in (0, len(rows)):
            raise ValueError(f"keys has {len(keys)} entries; {len(rows)} images need as many, or none")
        names = [list(bytes.fromhex(image_id(key))) for key in keys] or [[-1] * _ID_BYTES] * len(rows)
        named = torch.cat([torch.tensor(names).view(-1, _ID_BYTES).to(rows), rows], dim=1)
        self.rows.append(named.to(self.device, self.dtype).flatten())

    def table(self) -> dict[str, NDArray[np.float64]]:
        """Return every column (n_images,) float64 by name."""
        return dict(zip(self.columns, self._values()[:, _ID_BYTES:].T, strict=True))

    def ids(self) -> list[str]:
        """Return every image's name (:func:`image_id`), in the order of the table; "" for an image without a key."""
        names = self._values()[:, :_ID_BYTES]
        return [bytes(int(byte) for byte in name).hex() if name[0] >= 0 else "" for name in names.tolist()]

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares behind the results, by name; a mean is a share whose ``whole`` is 1 for each image.

        Args:
            table: the table that :meth:`table` returns.
        """
        return {}

    def compute(self) -> dict[str, MetricResult]:
        """Return every result by name."""
        return share_results(self.shares(self.table()), self.generator())

    def per_image(self) -> dict[str, PerImage]:
        """Return what each image of all processes adds to each result, by the result's name and :func:`image_id`.

        If every image has a key, the sum of the parts over the sum of the wholes is the result's value. Call it in
        every process, like ``compute``. Results that are no shares have no entry.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            shares, ids = self.shares(self.table()), self.ids()
        found = {name: by_image(share, ids) for name, share in shares.items() if share.whole.any()}
        return {name: images for name, images in found.items() if images}

    def _values(self) -> NDArray[np.float64]:
        """Return the state as rows, (n_images, 8 + len(columns))."""
        flat = dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0)
        return flat.detach().to("cpu", torch.float64).reshape(-1, _ID_BYTES + len(self.columns)).numpy()

    def generator(self) -> np.random.Generator:
        """Return a new generator for the bootstrap, so that computing twice gives the same result."""
        return np.random.default_rng(self.seed)


class PromptMetric(PerImageMetric):
    """A metric of images and their prompts; :meth:`compare` returns the row of each pair."""

    def update(self, images: Tensor, prompts: Sequence[str], keys: Sequence[str] = ()) -> None:
        """Measure B images.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            prompts: B prompts.
            keys: B names, or none.

        Raises:
            ValueError: if their numbers differ.
        """
        if len(images) != len(prompts):
            raise ValueError(f"prompts has {len(prompts)} entries; {len(images)} images need as many")
        if len(images):
            self.append(self.compare(images, prompts), keys)

    def compare(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the rows of B images, (B, len(columns)); B is at least 1."""
        raise NotImplementedError
