"""Settings for jsonargparse: the parser, the classes a configuration may name, YAML quoting and error messages."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
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
_UNION = re.compile(
    r"Subtypes: \[(?P<types>[^\n]*)\]\s+Errors:\s+(?:- Expected a [^\n]*\n\s*)+"
    r"Given value type: [^\n]*\s+Given value: (?P<value>[^\n]*)"
)
_TYPE = re.compile(r"typing\.Literal\[(?P<literals>[^\]]*)\]|(?P<many>[\w.]+)\[|<class '(?P<name>[^']+)'>")
_PLAIN_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
}
_DENIED = re.compile(r"(Importing '[^']+' is not allowed), denied by .*")
_EXAMPLE = "--config mini/stage0_align.yaml"
_REQUIRED = "the following arguments are required: "
_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")

_read: ContextVar[dict[object, tuple[Namespace, ArgumentParser, Context]] | None] = ContextVar("_read", default=None)
"""What the classes' parsers have returned in the ongoing parse, each with the parser and the context that its key names
by their addresses, which must not be given to others meanwhile."""


@contextmanager
def _remembering() -> Iterator[None]:
    """Remember what is read until the outermost parse ends; files may have changed by the next one."""
    token = _read.set({}) if _read.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _read.reset(token)


class Parser(LightningArgumentParser):
    """LightningCLI's parser, which also fills in derived keys and reports errors in one line with the nearest key.

    jsonargparse reads the arguments of a class several times, and at each time several times those of the classes
    among them: the innermost a hundred times. Here the same arguments are read once in a parse.
    """

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse as jsonargparse does."""
        with _remembering():
            return super().parse_args(*args, **kwargs)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Write a configuration as jsonargparse does, which checks it."""
        with _remembering():
            return str(super().dump(*args, **kwargs))

    def parse_object(
        self,
        obj: Namespace | dict[str, Any],
        namespace: Namespace | None = None,
        env: bool | None = None,
        defaults: bool = True,
        **kwargs: Any,
    ) -> Namespace:
        """Parse the arguments of a class, or return what the same call returned before in this parse."""
        read, context = _read.get(), copy_context()
        if read is None:
            return super().parse_object(obj, namespace, env, defaults, **kwargs)
        # jsonargparse keeps in context variables what else decides, such as how strict it is
        settings = frozenset((variable, id(value)) for variable, value in context.items())
        key = (id(self), repr(obj), repr(namespace), env, defaults, repr(kwargs), settings)
        if key not in read:
            read[key] = super().parse_object(obj, namespace, env, defaults, **kwargs), self, context
        return read[key][0].clone()

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:
        """Fill in the keys that follow from others, in place, then check; parsing and dumping both call this."""
        subcommand = namespace.get("subcommand")
        complete(namespace.get(subcommand) if subcommand else namespace)
        super().validate(namespace, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and end with exit code 2; a nested parser passes its error to the outer one."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        if message.startswith(_REQUIRED):
            missing = message.removeprefix(_REQUIRED).replace(", ", " and ")
            message = f"{missing} are missing; name a configuration that has them: {_EXAMPLE}"
        print(f"{program(parser.prog)}: {reason(message, keys_of(parser))}", file=sys.stderr)
        self.exit(2)


def prepare() -> None:
    """Configure jsonargparse: what may be imported and built, and how YAML is written.

    A configuration is code: a class that it names is imported. So it may only name the libraries that this package
    builds on, which is checked before the import, and a class given for an argument of type Any is not built.
    """
    set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=list(ALLOWED), instantiate_subclass_spec_in_any=False
    )
    set_dumper("yaml", dump)


def dump(data: Any) -> str:
    """Write YAML that reads back unchanged: a string that the reader would take for another type is quoted."""
    return str(yaml.dump(data, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes for jsonargparse's reader, whose resolvers differ from PyYAML's."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = get_loader("yaml")(text) == text
    except (yaml.YAMLError, ValueError):
        plain = False
    quotes = "'" if text.isprintable() else '"'  # only double quotes keep every kind of line break
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else quotes)


def _member(dumper: yaml.SafeDumper, member: Enum) -> yaml.Node:
    return dumper.represent_data(member.value)


_Dumper.add_representer(str, _quoted)
_Dumper.add_multi_representer(Enum, _member)  # such as the default of an argument of Lightning's Timer


def _found(path: str) -> Any:
    """Import the object that a dotted path names; None if it cannot or may not be imported."""
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
    """Turn jsonargparse's ``file.py [options] fit`` into ``vlad-cli fit``."""
    return " ".join(["vlad-cli", *prog.partition(" [options] ")[2].split()])


def keys_of(parser: ArgumentParser) -> list[str]:
    """Return the dotted keys that a parser knows."""
    return [action.dest for action in parser._actions]


def reason(message: str, keys: Sequence[str] = ()) -> str:
    """Return the innermost reason of jsonargparse's nested error message in one line.

    Args:
        message: the message, in which each level of a configuration indents its errors.
        keys: the keys of the top level, from which the nearest is suggested.
    """
    above, text = _deepest(message)
    if message.count("Errors:") == 1 and (union := _UNION.search(message)):
        text = f"{union['value']!r} is not allowed; allowed are {', '.join(_allowed(union['types']))}"
    classes = [match[1] for line in above if (match := _CLASS.search(line))]
    named = [match[1] for line in above if (match := _KEY.match(line))]
    if key := _KEY.match(text):
        named.append(key[1])
        text = text[key.end() :]
    if (unknown := _UNKNOWN.match(text)) is not None:
        return _no_such_key(unknown, classes, named, keys)
    text = _DENIED.sub(rf"\1; a configuration may name what is in {', '.join(ALLOWED)}", text)
    if (absent := _ATTRIBUTE.match(text)) is not None:
        text += _nearest(absent[2], vars(import_module(absent[1])))
    return ": ".join(part for part in (".".join(named), " ".join(text.split())) if part)


def _allowed(types: str) -> list[str]:
    """Return the values that a union allows, in words.

    Args:
        types: the union as jsonargparse lists its types.
    """
    found: list[str] = []
    for match in _TYPE.finditer(types):
        if match["literals"]:
            found += [literal.strip("'") for literal in match["literals"].split(", ")]
        elif match["many"]:
            found.append("a list")
        else:
            name = match["name"]
            found.append(_PLAIN_TYPES.get(name, f"the path of a class such as {name}"))
    return list(dict.fromkeys(found))


def _deepest(message: str) -> tuple[list[str], str]:
    """Return the lines above the first innermost line, outermost first, and that line."""
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
    name = classes[-1].rpartition(".")[2]
    if name in ("LightningModule", "LightningDataModule"):  # the bases: nothing has named a class
        group = ".".join(named)
        return f"{group}.{key} is given, and no class for {group}; name a configuration that has one: {_EXAMPLE}"
    known = keys_of(_of_class(classes[-1]))
    return f"{'.'.join(named)}: {name} has no key {key!r}{_nearest(key, known)}"


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
    """Refuse a file that is not a YAML mapping, naming the file, which the parser's own message does not.

    Raises:
        ValueError: if it is not YAML, is not a mapping, or holds a number beyond the limits.
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
