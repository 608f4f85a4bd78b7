"""The package's docstrings as Markdown: references become links, and doctests become code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(?P<short>~?)(?P<name>[\w.]+)`")
_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)


class DocstringMarkdown(griffe.Extension):
    """Rewrites each docstring when the package has been read.

    A reference such as ``:func:`name``` becomes a link if a page shows its target, and otherwise the name. One whose
    target does not exist is logged as a warning.
    """

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        """Rewrite the docstrings of a package."""
        for member in everything_in(pkg):
            if member.docstring is not None:
                text = _DOCTEST.sub(_fenced, member.docstring.value)
                member.docstring.value = _ROLE.sub(lambda role, member=member: _link(role, member), text)


def everything_in(parent: griffe.Object) -> Iterator[griffe.Object]:
    """Yield an object and everything that is defined in it, not what is imported there."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from everything_in(member)


def _fenced(doctest: re.Match[str]) -> str:
    """Return a doctest as a block of code."""
    indent = doctest["indent"]
    return f"{indent}```pycon\n{doctest[0]}\n{indent}```"


def _link(role: re.Match[str], member: griffe.Object) -> str:
    """Return what a reference in the docstring of ``member`` becomes."""
    name = role["name"]
    target = _find(name, member)
    if target is None:
        griffe.logger.warning("%s: the docstring refers to %s, which does not exist", member.path, name)
    label = name.rpartition(".")[2] if role["short"] else name
    return f"[`{label}`][{target.path}]" if target is not None and _is_shown(target) else f"`{label}`"


def _find(name: str, member: griffe.Object) -> griffe.Object | None:
    """Return the object of a name: a full path, or a name as the code around ``member`` would use it."""
    first, _, rest = name.partition(".")
    try:
        path = name if first == member.package.name else ".".join(filter(None, (member.resolve(first), rest)))
        found = member.package[path.removeprefix(f"{member.package.name}.")]
        return found.final_target if found.is_alias else found
    except (griffe.NameResolutionError, griffe.AliasResolutionError, KeyError):
        return None


def _is_shown(target: griffe.Object) -> bool:
    """Whether a page shows an object: it has a docstring, and it and everything around it are public."""
    around = target
    while around.parent is not None:
        if not around.is_public:
            return False
        around = around.parent
    return target.has_docstring
