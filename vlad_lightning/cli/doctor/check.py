"""The result of a check, and the table of several results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check, with advice.

    Attributes:
        name: the check's name.
        level: with ``fail`` a run cannot work, with ``warn`` it may not.
        found: what was found.
        advice: what to do; empty if there is nothing to do.
    """

    name: str
    level: Level
    found: str
    advice: str = ""


def worst(checks: Iterable[Check]) -> Level:
    """Return the most serious level."""
    levels = {check.level for check in checks}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"


def table(checks: Sequence[Check], width: int = 0) -> str:
    """Format one line per check, with the advice under it.

    Args:
        checks: the checks to show.
        width: the least width of the column of names.
    """
    width = max([width, *(len(check.name) for check in checks)])
    lines = []
    for check in checks:
        lines.append(f"{check.level:<4}  {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<{width + 8}}-> {check.advice}")
    return "\n".join(lines)


def same(name: str, values: Sequence[str], owners: Sequence[str], advice: str) -> Check:
    """Check that all owners have the same value, and name those that differ from the most frequent one.

    Args:
        name: the check's name.
        values: one value for each owner.
        owners: their names, such as ``rank 1 on node2``.
        advice: what to do if they differ.
    """
    common = max(dict.fromkeys(values), key=list(values).count)  # the first of equally frequent values
    others = [f"{owner} has {value}" for owner, value in zip(owners, values, strict=True) if value != common]
    if not others:
        return Check(name, "ok", common)
    return Check(name, "fail", f"{common}, but {'; '.join(others)}", advice)
