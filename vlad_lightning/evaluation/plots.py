"""Plots of scored systems as SVG, which a page can hold without a second file."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vlad_lightning.evaluation.scored_system import ScoredSystem

_COLOURS = ("#20639b", "#d1495b", "#3c8d5a", "#edae49", "#6f4e9c", "#5c6b73")
_ROW = 0.2  # inches
_WIDTH = 7.0


def figures_plot(systems: Sequence[ScoredSystem], reader: str, figures: Sequence[str]) -> str:
    """Return a plot of each figure between 0 and 1: a dot with its interval for each system."""
    found = {name: [system.result(reader, name) for system in systems] for name in figures}
    shown = {name: results for name, results in found.items() if all(r and 0 <= r["value"] <= 1 for r in results)}
    return _dots(list(shown), list(shown.values()), [system.name for system in systems])


def subsets_plot(systems: Sequence[ScoredSystem], reader: str, figure: str) -> str:
    """Return a plot of one figure by subset, likewise."""
    subsets = list(systems[0].content["suite"]["subsets"])
    found = [[s.content["results"][reader]["subsets"].get(name, {}).get(figure) for s in systems] for name in subsets]
    return _dots(subsets, found, [system.name for system in systems])


def _dots(names: Sequence[str], results: Sequence[Sequence[Any]], systems: Sequence[str]) -> str:
    rows = len(names) * (len(systems) + 0.6)
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "vlad-lightning",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    with rc_context(settings):
        plot = Figure(figsize=(_WIDTH, 0.9 + _ROW * max(rows, 2)), layout="constrained")
        axes = plot.add_subplot()
        for place, name in enumerate(systems):
            colour = _COLOURS[place % len(_COLOURS)]
            offset = (place - (len(systems) - 1) / 2) / (len(systems) + 0.6)
            known = [(row + offset, found[place]) for row, found in enumerate(results) if found[place]]
            ranges = [(y, r["low"], r["high"]) for y, r in known if r["low"] is not None]
            axes.hlines([y for y, *_ in ranges], [r[1] for r in ranges], [r[2] for r in ranges], colour, linewidth=2)
            axes.plot(
                [r["value"] for _, r in known], [y for y, _ in known], "o", color=colour, markersize=5, label=name
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(systems) > 1:
            plot.legend(loc="outside upper left", ncols=min(4, len(systems)), frameon=False)
        text = io.StringIO()
        FigureCanvasSVG(plot).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
