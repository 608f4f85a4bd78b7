"""The package's files are where CONTRIBUTING says, and each name is used for one file."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import vlad_lightning

PACKAGE = Path(vlad_lightning.__file__).parent
ROOT = PACKAGE.parent


def test_the_root_of_the_package_has_at_most_eight_files() -> None:
    assert len([path.name for path in PACKAGE.iterdir() if path.is_file()]) <= 8


def test_a_file_name_occurs_once_but_for_a_network_and_its_module() -> None:
    places = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py" and (path.parent / "__init__.py").is_file():  # not a shipped pipeline.py
            places[path.name].append(path.relative_to(PACKAGE).parts[0])
    twice = {name: set(folders) for name, folders in places.items() if len(folders) > 1}
    assert {name: folders for name, folders in twice.items() if folders != {"models", "modules"}} == {}


def test_contributing_lists_the_packages_that_there_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]*) \|", text, flags=re.MULTILINE)
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    there |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == there
