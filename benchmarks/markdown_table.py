"""Tables as Markdown on standard output."""

from __future__ import annotations

from collections.abc import Iterable


def span(values: Iterable[float], form: str) -> str:
    """``low to high``, or one result where both read the same."""
    low, high = (format(v, form) for v in sorted(values))
    return low if low == high else f"{low} to {high}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Markdown."""
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    table_rows(rows)


def table_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Further rows of the table above."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
