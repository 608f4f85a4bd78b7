"""Suites of prompts with their measures, by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from vlad_lightning.evaluation.suite import Suite

_READERS = {
    "mario-eval": ("mario_eval", "read_mario_eval"),
    "mario-eval-sound": ("mario_eval", "read_mario_eval_sound"),
    "innovator-eval": ("innovator_eval", "read_innovator_eval"),
    "innovator-eval-mini": ("innovator_eval", "read_innovator_eval_mini"),
    "anytext-bench": ("anytext_bench", "read_anytext_bench"),
    "cvtg-2k": ("cvtg", "read_cvtg"),
    "longtext-bench": ("longtext_bench", "read_longtext_bench"),
    "geneval-mini": ("geneval", "read_geneval"),
}
"""Module and function of each suite, imported when it is read: the names alone are wanted for a command's help."""

SUITES: tuple[str, ...] = tuple(_READERS)
"""The suites' names."""


def read_suite(name: str, prompts: Path | None = None) -> Suite:
    """Return a suite by its name.

    Args:
        name: one of :data:`SUITES`.
        prompts: the user's file or folder with the suite's prompts, see ``docs/suites.md``; None for a suite whose
            prompts are part of this package.

    Raises:
        FileNotFoundError: if the prompts, or a file in them, are missing.
        ValueError: for an unknown name, or prompts of another form; one line that says what is wrong and where.
    """
    if name not in _READERS:
        raise ValueError(f"suite is {name!r}; allowed are {', '.join(SUITES)}")
    module, reader = _READERS[name]
    read = getattr(import_module(f"{__name__}.{module}"), reader)
    return cast("Suite", read(prompts))
