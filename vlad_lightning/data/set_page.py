"""A page about a data set, which needs no other file: its report, plots, and some pictures with their words' boxes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from vlad_lightning.data.inspection import Inspection
from vlad_lightning.data.source import RawSample, prompt_of
from vlad_lightning.files import write_text

_TEMPLATE = "set_page.html.j2"
_SIDE = 320  # pixels of a picture's longer side
_COLOUR = "#20639b"
_BINS = 30


@dataclass(frozen=True)
class _Shown:
    """A picture on the page; corners are in hundredths of its sides."""

    key: str
    prompt: str
    picture: str
    width: int
    height: int
    words: tuple[tuple[str, str], ...]


def write_page(
    path: Path,
    title: str,
    lines: Sequence[str],
    inspection: Inspection,
    samples: Sequence[RawSample],
    dropped: Mapping[str, tuple[int, Sequence[str]]] | None = None,
) -> None:
    """Write the page.

    Args:
        path: the file.
        title: its title.
        lines: the report.
        inspection: what was found in the samples, which is plotted.
        samples: the samples that are shown.
        dropped: for each reason, the number of samples that were left out, and some names.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True
    )
    page = environment.get_template(_TEMPLATE).render(
        title=title,
        lines=lines,
        dropped=dropped or {},
        plots=_plots(inspection),
        samples=[_shown(sample) for sample in samples],
    )
    write_text(path, page)


def _shown(sample: RawSample) -> _Shown:
    image = sample.image.convert("RGB")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    quads = [" ".join(f"{100 * x:.2f},{100 * y:.2f}" for x, y in word.quad.tolist()) for word in sample.words]
    words = tuple(zip(quads, (f"{word.text} ({word.confidence:.2f})" for word in sample.words), strict=True))
    encoded = base64.b64encode(content.getvalue()).decode()
    return _Shown(sample.key, prompt_of(sample, sample.key), encoded, *image.size, words)


def _plots(inspection: Inspection) -> list[str]:
    facets: list[tuple[str, Any]] = [(name, values) for name, values in inspection.values.items() if values]
    bars = dict(inspection.scripts.most_common(8))
    return [*(_histogram(name, values) for name, values in facets), *([_bars("scripts", bars)] if bars else [])]


def _histogram(name: str, values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    bins: Any = _BINS
    if name == "confidence":
        bins = [i / _BINS for i in range(_BINS + 1)]
    elif all(float(value).is_integer() for value in values) and high - low < _BINS:
        bins = [low - 0.5 + i for i in range(int(high - low) + 2)]
    plot, axes = _axes(name)
    axes.hist(values, bins=bins, color=_COLOUR)
    return _svg(plot)


def _bars(name: str, counts: Mapping[str, int]) -> str:
    plot, axes = _axes(name)
    axes.bar(list(counts), list(counts.values()), color=_COLOUR)
    axes.tick_params(axis="x", labelrotation=30)
    return _svg(plot)


def _axes(name: str) -> tuple[Figure, Any]:
    plot = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = plot.add_subplot()
    axes.set_title(name, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return plot, axes


def _svg(plot: Figure) -> str:
    found = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "vlad-lightning", "font.size": 8}
    with rc_context(settings):
        FigureCanvasSVG(plot).print_svg(found, metadata={"Date": None})
    text = found.getvalue()
    return text[text.index("<svg") :]
