"""Print tables as Markdown on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import stdev
from typing import Any


def span(values: Iterable[float], form: str) -> str:
    """Format ``low to high``, or a single number if both read the same."""
    low, high = (format(v, form) for v in sorted(values))
    return low if low == high else f"{low} to {high}"


def result_cell(result: Mapping[str, Any] | None) -> str:
    """Format a result of ``results.json`` with its interval, or with the standard deviation over several seeds."""
    if result is None:
        return "-"
    if len(result.get("seeds", ())) > 1:
        return f"{result['value']:.3f} ± {stdev(result['seeds']):.3f}"
    if result["low"] is None:
        return f"{result['value']:.3f}"
    return f"{result['value']:.3f} ({result['low']:.3f} to {result['high']:.3f})"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table as Markdown."""
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    table_rows(rows)


def table_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print more rows of the table above."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
