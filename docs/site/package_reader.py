"""The package as griffe reads it, without importing it, so that torch need not be installed."""

from __future__ import annotations

import logging
from pathlib import Path

import griffe
from docstring_markdown import DocstringMarkdown, everything_in

PACKAGE = "vlad_lightning"


class DocstringError(ValueError):
    """Docstrings that do not fit their code."""


class _Collector(logging.Handler):
    """Keeps the messages that griffe logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


def read_package(root: Path) -> griffe.Module:
    """Read the package and check its docstrings.

    Args:
        root: the folder with the package.

    Raises:
        DocstringError: a docstring names a parameter that does not exist, or refers to something that does not; the
            message has a line for each.
    """
    logger, collector = logging.getLogger("griffe"), _Collector()
    logger.addHandler(collector)
    logger.propagate = False
    extensions = griffe.load_extensions(DocstringMarkdown)
    package = griffe.load(
        PACKAGE,
        search_paths=[root],
        try_relative_path=False,  # not one in the current folder
        extensions=extensions,
        docstring_parser="google",
        allow_inspection=False,
    )
    for member in everything_in(package):
        if member.docstring is not None:
            _ = member.docstring.parsed  # logs what is wrong
    logger.removeHandler(collector)
    if collector.messages:
        raise DocstringError("\n".join(collector.messages))
    return package
