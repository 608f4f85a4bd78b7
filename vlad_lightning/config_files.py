"""Where the shipped YAML files are: ``configs/`` of a checkout, ``vlad_lightning/configs/`` of an installed wheel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_OPTIONS = ("--config", "-c")


def configs_folder() -> Path:
    """The folder of the shipped configurations, absolute."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(path: str | Path, *folders: Path) -> Path:
    """The first file that ``path`` names.

    Args:
        path: absolute, or relative to one of the folders searched. ``configs/x.yaml`` and ``x.yaml`` both name the
            shipped file ``x.yaml``.
        folders: searched in this order, before the working directory and the shipped configurations.

    Raises:
        FileNotFoundError: if no such file exists; the message lists the places searched.
    """
    shipped = configs_folder()
    candidates = [folder / path for folder in (*folders, Path.cwd(), shipped.parent, shipped)]  # absolute paths win
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    places = ", ".join(dict.fromkeys(str(candidate.parent) for candidate in candidates))
    raise FileNotFoundError(f"no configuration file {str(path)!r}; searched: {places}")


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
