"""Folders of installed packages whose files are used, but whose code is not imported."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path


@cache
def package_folder(module: str, distribution: str, version: str) -> Path:
    """Return the folder of an installed package.

    Args:
        module: its name in Python.
        distribution: its name on PyPI.
        version: the version to recommend.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"{distribution} is not installed, and letters or icons need it: pip install {distribution}=={version}"
        )
    return Path(found.submodule_search_locations[0])
