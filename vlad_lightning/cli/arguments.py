"""The parser of the commands' own options: its errors are one line, with the nearest option where one is misspelt."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_ALIKE = 0.65  # of difflib's ratio: from 0 to 1, which is the same


class Parser(argparse.ArgumentParser):
    """argparse's parser without abbreviations, whose errors are ValueErrors instead of several lines and an exit."""

    _words: Sequence[str] = ()

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse all arguments.

        Raises:
            ValueError: in one line, for an argument that is unknown, missing or of the wrong kind.
        """
        options, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return options

    def parse_known_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the options of this parser, and return the other words, too.

        Raises:
            ValueError: in one line, for an argument that is missing or of the wrong kind.
        """
        self._words = args
        return super().parse_known_args(args, namespace)

    def refuse(self, words: Sequence[str]) -> None:
        """Refuse words that nothing reads.

        Raises:
            ValueError: naming the first option among them, or all of them if none is an option.
        """
        option = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if option is not None:
            self.error(f"there is no option {option}{self.meant(option)}")
        if words:
            self.error(f"unexpected words: {' '.join(words)}; a text with spaces must be in quotation marks")

    def meant(self, option: str) -> str:
        """Return the question whether the nearest option is meant, empty if none is near."""
        return nearest(option, self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Raise the error, which ends the command with exit code 2; an option that is missing may be misspelt.

        Raises:
            ValueError: always.
        """
        needed, _, missing = message.partition(" are required: ")
        if missing and needed:
            message = misspelt(self._words, missing.split(", ")) or message
        raise ValueError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def misspelt(words: Iterable[str], missing: Iterable[str]) -> str:
    """Return the message that an option is misspelt, empty if no word is like one of the missing options."""
    for word in words:
        option = word.partition("=")[0]
        if word.startswith("--") and (hint := nearest(option, missing)):
            return f"there is no option {option}{hint}"
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the question whether the nearest of the known options is meant, empty if none is near."""
    bare = {option.lstrip("-"): option for option in known}  # the dashes would make all of them alike
    near = difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=_ALIKE)
    return f"; did you mean {bare[near[0]]}?" if near else ""
