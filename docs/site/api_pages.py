"""Pages of the API: one for each package and each module, and their navigation, in the order of the layers.

The modules are read, not imported, so torch need not be installed. The docstrings are rendered by mkdocstrings when the
site is built.
"""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath

import griffe
from package_reader import read_package

INTRODUCTION = """# API

The public classes and functions, from the command line at the top to plain functions at the bottom. Each package
imports only from packages further down; [contributing](../contributing.md#layers) says what each holds.
"""


def write_api(root: Path, pages: Path) -> None:
    """Write the pages of the package's modules.

    Args:
        root: the repository.
        pages: the folder of the pages.
    """
    package = read_package(root)
    names = [name for name in _layers(root) if name in package.members and not name.startswith("_")]
    modules = [package[name] for name in names]
    _write(pages / "index.md", INTRODUCTION + _table(modules, package))
    _write(pages / ".nav.md", "".join(["- [API](index.md)\n", *(_navigation(module, 0) for module in modules)]))
    for module in modules:
        _write_module(module, pages)


def _layers(root: Path) -> list[str]:
    """Return the modules of the package from the highest layer to the lowest, as import-linter is told them."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    rows = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [name.strip(" ()") for row in rows for name in row.split("|")]


def _write_module(module: griffe.Module, pages: Path) -> None:
    """Write the page of a module, and those of the modules in it."""
    text = f"::: {module.path}\n"
    if module.is_package or module.is_subpackage:
        text += "    options:\n      members: false\n\n" + _exports(module) + _table(_children(module), module)
    _write(pages / _page(module), text)
    for child in _children(module):
        _write_module(child, pages)


def _exports(package: griffe.Module) -> str:
    """Return a line with the names that a package takes from its modules."""
    names = [f"[`{name}`][{package.members[name].final_target.path}]" for name in package.exports or ()]
    return f"To import from here: {', '.join(names)}.\n\n" if names else ""


def _children(module: griffe.Module) -> list[griffe.Module]:
    """Return the public modules of a package."""
    children = [child for child in module.members.values() if not child.is_alias and child.is_module]
    return sorted((child for child in children if child.is_public), key=lambda child: child.name)


def _page(module: griffe.Module) -> PurePosixPath:
    """Return the page of a module, relative to the folder of the API's pages."""
    parts = module.path.split(".")[1:]
    if module.is_package or module.is_subpackage:
        return PurePosixPath(*parts, "index.md")
    return PurePosixPath(*parts[:-1], f"{parts[-1]}.md")


def _table(modules: list[griffe.Module], package: griffe.Module) -> str:
    """Return a table of a package's modules, each with the first sentence of its docstring."""
    rows = ["| module | |", "|---|---|"]
    for module in modules:
        link = _page(module).relative_to(_page(package).parent)
        summary = module.docstring.value.partition("\n\n")[0].replace("\n", " ") if module.docstring else ""
        rows.append(f"| [`{module.name}`]({link}) | {summary} |")
    return "\n".join(rows) + "\n"


def _navigation(module: griffe.Module, depth: int) -> str:
    """Return the lines of the navigation for a module and those in it."""
    children = "".join(_navigation(child, depth + 1) for child in _children(module))
    indent = 4 * " "
    if not children:
        return f"{depth * indent}- [{module.name}]({_page(module)})\n"
    own = f"{(depth + 1) * indent}- [{module.name}]({_page(module)})\n"
    return f"{depth * indent}- {module.name}\n{own}{children}"


def _write(page: Path, text: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
