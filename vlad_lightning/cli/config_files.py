"""Configuration files on a command line: names of shipped files, and lists that replace earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from vlad_lightning.files import find_config

_OPTIONS = ("--config", "-c")
_ENDINGS = (".yaml", ".yml")
_KEYS = ("callbacks", "logger", "plugins")
_LISTS = tuple(f"--trainer.{key}" for key in _KEYS)


def find_shipped(args: Sequence[str]) -> list[str]:
    """Replace the names of shipped files after ``--config`` by their paths, unless the working directory has the file.

    Names that are not found stay as they are, for the parser to refuse.
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


def require(args: Sequence[str]) -> None:
    """Refuse a YAML file after ``--config`` that is neither there nor shipped, before anything else is imported.

    Raises:
        FileNotFoundError: naming the file and where it was looked for.
    """
    for name in _values(args):
        if name.endswith(_ENDINGS) and not Path(name).exists():
            find_config(name)


def named_files(args: Sequence[str]) -> list[Path]:
    """Return the existing configuration files that a command line names, in its order."""
    return [path for path in map(Path, _values(args)) if path.is_file()]


def _values(args: Sequence[str]) -> list[str]:
    found = []
    for before, arg in zip(["", *args], args, strict=False):
        option, sign, value = arg.partition("=")
        found += [arg] if before in _OPTIONS else [value] if option in _OPTIONS and sign else []
    return found


def reset_lists(args: Sequence[str]) -> list[str]:
    """Make each list of callbacks, loggers or plugins on a command line replace an earlier list as a whole.

    In jsonargparse, the items of a list inherit arguments from those of an earlier list of the same length, by position
    and regardless of their classes: an ``InitFrom`` would get the ``source`` of a ``FromPretrained``. An empty list
    inserted before it prevents that.
    """
    found: list[str] = []
    for index, arg in enumerate(args):
        option, sign, value = arg.partition("=")
        if option in _OPTIONS:
            found += [f"--trainer.{key}=[]" for key in _listed(value if sign else "".join(args[index + 1 : index + 2]))]
        elif option in _LISTS:
            found.append(f"{option}=[]")
        found.append(arg)
    return found


def _listed(config: str) -> list[str]:
    """Return the trainer's keys for which a file, or YAML text instead of a file, has a list."""
    content: Any = None
    with suppress(OSError, yaml.YAMLError, ValueError, RecursionError):  # the parser refuses such a file
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8") if Path(config).is_file() else config)
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    return [key for key in _KEYS if isinstance(trainer, Mapping) and isinstance(trainer.get(key), list)]


def _shipped(name: str) -> str:
    if not name.endswith(_ENDINGS) or Path(name).exists():
        return name
    with suppress(FileNotFoundError):
        return str(find_config(name))
    return name
