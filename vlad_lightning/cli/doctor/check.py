"""The result of one check, and the table of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was looked at and what to do about it.

    Attributes:
        name: of the check.
        level: ``fail`` keeps a run from working, ``warn`` may.
        found: what was seen.
        advice: what to do; empty where nothing is to be done.
    """

    name: str
    level: Level
    found: str
    advice: str = ""


def worst(checks: Iterable[Check]) -> Level:
    """The most serious level."""
    levels = {check.level for check in checks}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"


def table(checks: Sequence[Check], width: int = 0) -> str:
    """A line a check, with the advice under it.

    Args:
        checks: its lines.
        width: of the names' column, at least.
    """
    width = max([width, *(len(check.name) for check in checks)])
    lines = []
    for check in checks:
        lines.append(f"{check.level:<4}  {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<{width + 8}}-> {check.advice}")
    return "\n".join(lines)


def same(name: str, values: Sequence[str], owners: Sequence[str], advice: str) -> Check:
    """Whether all owners have the same value; one that differs from the most frequent is named.

    Args:
        name: of the check.
        values: one for each owner.
        owners: their names, such as ``rank 1 on node2``.
        advice: what to do where they differ.
    """
    common = max(dict.fromkeys(values), key=list(values).count)  # of equally frequent ones the first
    others = [f"{owner} has {value}" for owner, value in zip(owners, values, strict=True) if value != common]
    if not others:
        return Check(name, "ok", common)
    return Check(name, "fail", f"{common}, but {'; '.join(others)}", advice)
