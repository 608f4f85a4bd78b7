"""Names of shipped YAML files on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from vlad_lightning.files import find_config

_OPTIONS = ("--config", "-c")


def find_shipped(args: Sequence[str]) -> list[str]:
    """A command line whose ``--config`` names of shipped files hold their paths, where the working directory has none.

    Names that are found nowhere stay what they are, for the parser to refuse.
    """
    found: list[str] = []
    for before, arg in zip(["", *args], args, strict=False):
        option, sign, value = arg.partition("=")
        if before in _OPTIONS:
            found.append(_shipped(arg))
        elif option in _OPTIONS and sign:
            found.append(f"{option}={_shipped(value)}")
        else:
            found.append(arg)
    return found


def named_files(args: Sequence[str]) -> list[Path]:
    """The configuration files that a command line names and that exist."""
    words = [arg.partition("=") for arg in args]
    named = [value for option, sign, value in words if option in _OPTIONS and sign]
    named += [arg for before, arg in pairwise(args) if before in _OPTIONS]
    return [path for path in map(Path, named) if path.is_file()]


def _shipped(name: str) -> str:
    if not name.endswith((".yaml", ".yml")) or Path(name).exists():
        return name
    with suppress(FileNotFoundError):
        return str(find_config(name))
    return name
