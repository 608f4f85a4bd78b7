"""How jsonargparse reads and writes configurations here: what a value may name, what is quoted, what an error says."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_dumper, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from vlad_lightning.cli.derived import complete
from vlad_lightning.limits import check_settings

ALLOWED = ("vlad_lightning", "lightning", "torch", "torchvision", "torchmetrics", "diffusers", "transformers")
"""The libraries whose classes and functions a configuration may name."""

_NOISE = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
_UNKNOWN = re.compile(
    r"(?:Option '(?P<option>[^']+)' is not accepted|(?P<owner>\w+) '(?P<name>[^']+)' does not accept option "
    r"'(?P<inner>[^']+)'|unrecognized arguments: --(?P<argument>[^\s=]+).*)"
)
_CLASS = re.compile(r"class_path '([^']+)'")
_KEY = re.compile(r'Parser key "([^"]+)"[^:]*:\s*')
_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")


class Parser(LightningArgumentParser):
    """LightningCLI's, which knows what follows, and whose errors are one line: the last reason, the nearest key."""

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:
        """Fill in what follows from other keys, in place, then check: parsing and dumping both come here."""
        subcommand = namespace.get("subcommand")
        complete(namespace.get(subcommand) if subcommand else namespace)
        super().validate(namespace, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with exit code 2; a parser inside another one hands its error on."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        print(f"{program(parser.prog)}: {reason(message, keys_of(parser))}", file=sys.stderr)
        self.exit(2)


def prepare() -> None:
    """Set what may be imported and built, and how texts are written.

    A config is code: a class it names is imported. So only the libraries this package builds on may be named, which is
    checked before the import, and a class for an argument of any type is not built at all.
    """
    set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=list(ALLOWED), instantiate_subclass_spec_in_any=False
    )
    set_dumper("yaml", dump)


def dump(data: Any) -> str:
    """YAML that is read back as it was: a text that the reader would take for another value is quoted."""
    return str(yaml.dump(data, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))


class _Dumper(yaml.SafeDumper):
    """PyYAML's quotes what PyYAML would misread; jsonargparse reads with resolvers of its own."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = get_loader("yaml")(text) == text
    except (yaml.YAMLError, ValueError):
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


def _member(dumper: yaml.SafeDumper, member: Enum) -> yaml.Node:
    return dumper.represent_data(member.value)


_Dumper.add_representer(str, _quoted)
_Dumper.add_multi_representer(Enum, _member)  # such as the default of an argument of Lightning's Timer


def _found(path: str) -> Any:
    """What a path names; None where it cannot be imported, or may not be."""
    if path.partition(".")[0] not in ALLOWED:
        return None
    words = path.split(".")
    for count in range(len(words) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(words[:count]))
        except ImportError:
            continue
        for word in words[count:]:
            found = getattr(found, word, None)
        return found
    return None


def program(prog: str) -> str:
    """``vlad-cli fit`` of jsonargparse's ``file.py [options] fit``."""
    return " ".join(["vlad-cli", *prog.partition(" [options] ")[2].split()])


def keys_of(parser: ArgumentParser) -> list[str]:
    """The dotted keys that a parser knows."""
    return [action.dest for action in parser._actions]


def reason(message: str, keys: Sequence[str] = ()) -> str:
    """The last reason of jsonargparse's nested error message, in one line.

    Args:
        message: in which each level of a configuration indents its own errors.
        keys: that exist at the top, to name the nearest of.
    """
    above, text = _deepest(message)
    classes = [match[1] for line in above if (match := _CLASS.search(line))]
    named = [match[1] for line in above if (match := _KEY.match(line))]
    if key := _KEY.match(text):
        named.append(key[1])
        text = text[key.end() :]
    if (unknown := _UNKNOWN.match(text)) is not None:
        return _no_such_key(unknown, classes, named, keys)
    if (absent := _ATTRIBUTE.match(text)) is not None:
        text += _nearest(absent[2], vars(import_module(absent[1])))
    return ": ".join(part for part in (".".join(named), " ".join(text.split())) if part)


def _deepest(message: str) -> tuple[list[str], str]:
    """The first of the innermost lines, and those it stands under, outermost first."""
    lines = [(len(line) - len(line.lstrip(" -")), line.strip(" -")) for line in message.splitlines()]
    lines = [(depth, text) for depth, text in lines if text and not text.startswith(_NOISE)]
    if not lines:
        return [], " ".join(message.split())
    if max(depth for depth, _ in lines) < 4:  # nothing is nested: one reason, of several lines at most
        return [], " ".join(text for _, text in lines)
    depth, text = max(lines, key=lambda line: line[0])
    above: list[str] = []
    for outer, line in reversed(lines[: lines.index((depth, text))]):
        if outer < depth:
            above.insert(0, line)
            depth = outer
    return above, text


def _no_such_key(unknown: re.Match[str], classes: list[str], named: list[str], keys: Sequence[str]) -> str:
    group = unknown["name"] if unknown["owner"] == "Group" else ""
    key = unknown["option"] or unknown["argument"] or ".".join(part for part in (group, unknown["inner"]) if part)
    if not classes:
        return f"there is no key {key!r}{_nearest(key, keys)}"
    known = keys_of(_of_class(classes[-1]))
    return f"{'.'.join(named)}: {classes[-1].rpartition('.')[2]} has no key {key!r}{_nearest(key, known)}"


def _of_class(path: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    found = _found(path)
    if isinstance(found, type):
        parser.add_class_arguments(found)
    elif found is not None:
        parser.add_function_arguments(found)
    return parser


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, [key for key in known if isinstance(key, str)], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_config_file(path: Path) -> None:
    """Refuse a file that is no YAML mapping, by its name, which the parser's own message lacks.

    Raises:
        ValueError: where it is broken, or holds something else, or a number beyond all limits.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # another encoding, 5000 digits, 1000 brackets
        raise ValueError(f"--config {path}: not a YAML file: {error}") from error
    if not isinstance(content, Mapping | None):
        raise ValueError(f"--config {path}: must be a mapping of keys such as trainer and model; got {content!r:.60}")
    try:
        check_settings(content or {})
    except ValueError as error:
        raise ValueError(f"--config {path}: {error}") from error
