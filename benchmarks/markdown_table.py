"""Print tables as Markdown on standard output."""

from __future__ import annotations

from collections.abc import Iterable


def span(values: Iterable[float], form: str) -> str:
    """Format ``low to high``, or a single number if both read the same."""
    low, high = (format(v, form) for v in sorted(values))
    return low if low == high else f"{low} to {high}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table as Markdown."""
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    table_rows(rows)


def table_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print more rows of the table above."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
