"""Suites of prompts with their measures, by name."""

from __future__ import annotations

from pathlib import Path

from vlad_lightning.evaluation.suite import Suite

SUITES: tuple[str, ...] = ()
"""The suites' names."""


def read_suite(name: str, prompts: Path | None = None) -> Suite:
    """Return a suite by its name.

    Args:
        name: one of :data:`SUITES`.
        prompts: the user's file or folder with the suite's prompts.

    Raises:
        ValueError: for an unknown name.
    """
    raise ValueError(f"suite is {name!r}; allowed are {', '.join(SUITES)}")
