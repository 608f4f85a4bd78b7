"""The parser of the commands' own options: its errors are one line, with the nearest option where one is misspelt."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's parser without abbreviations, whose errors are ValueErrors instead of several lines and an exit."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse all arguments.

        Raises:
            ValueError: in one line, for an argument that is unknown, missing or of the wrong kind.
        """
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return options

    def error(self, message: str) -> NoReturn:
        """Raise the error, which ends the command with exit code 2.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def _unknown(self, words: Sequence[str]) -> str:
        option = next((word for word in words if word.startswith("-")), None)
        if option is None:
            return f"unexpected words: {' '.join(words)}; a text with spaces must be in quotation marks"
        name = option.partition("=")[0]
        return f"there is no option {name}{nearest(name, self._option_string_actions)}"


def nearest(name: str, known: Sequence[str] | Any) -> str:
    """Return the question whether the nearest of the known names is meant, empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
