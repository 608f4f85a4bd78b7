"""``vlad-cli fit --help``: every key of a fit and of a given ``--config``, read from the sources of the classes.

Importing the classes, Lightning and diffusers would take ten seconds, so their files are parsed instead.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from vlad_lightning.cli.config_files import find_shipped, named_files
from vlad_lightning.files import configs_folder

GROUPS = {
    "samples": "vlad_lightning.callbacks.PromptSamples",
    "checkpoints": "vlad_lightning.checkpoints.Checkpoints",
    "preemption": "vlad_lightning.health.Preemption",
    "step_guard": "vlad_lightning.health.StepGuard",
    "roll_back": "vlad_lightning.health.RollBack",
    "throughput": "vlad_lightning.health.ThroughputLogger",
    "watchdog": "vlad_lightning.health.Watchdog",
    "weight_census": "vlad_lightning.health.WeightCensus",
    "summary": "vlad_lightning.health.FitSummary",
}
"""The settings groups of every fit, and the classes that they configure."""

_TRAINER = "lightning.pytorch.Trainer"
_OWN = "vlad_lightning"
_REEXPORTS = 8  # imports that are followed to a definition
_WIDTH = 80
_ENTRY = re.compile(r"^(\w+)(?: ?\([^)]*\))?:((?:.|\n(?!\w))*)", re.MULTILINE)
_HEAD = """usage: vlad-cli {command} --config FILE [--config FILE ...] [--KEY VALUE ...]

The keys and values of {files}.
Later files and keys replace earlier ones.

  --out DIR         folder of the run; {{out}} stands for it
  --stage NAME      name of the stage's folder in --out
  --ckpt_path FILE  a checkpoint; last is the newest of this stage, with which a fit goes on
  --print_config    print the whole configuration instead
  --resume.allow_changes KEY  what may differ from the checkpoint of a resumed fit
  --seed_everything SEED"""


@dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes:
        name: the dotted name, as on a command line.
        value: the value in the configuration, or the default; empty if it has to be given.
        text: its description in the class's docstring.
    """

    name: str
    value: str
    text: str


@dataclass(frozen=True)
class _Parameter:
    name: str
    annotation: ast.expr | None
    default: str
    text: str
    module: str


def asked(args: Sequence[str]) -> bool:
    """Return whether a command line asks for help; that of ``--model.help CLASS`` is jsonargparse's."""
    return not {"-h", "--help"}.isdisjoint(args)


def show(command: str, args: Sequence[str]) -> None:
    """Print the help of a command with the configuration files that its command line names."""
    files = [configs_folder() / "base.yaml", *named_files(find_shipped(args))]
    config: dict[str, Any] = {}
    for file in files:
        _merge(config, _read(file))
    print(_HEAD.format(command=command, files=", ".join(file.name for file in files)))
    for group, given in {name: config.get(name) or {} for name in ("model", "data", *GROUPS, "trainer")}.items():
        path = {**GROUPS, "trainer": _TRAINER}.get(group) or given.get("class_path", "")
        print(f"\n{group}: {path or 'name a --config FILE beside --help to see its keys'}")
        for key in keys(path, group, given.get("init_args", {}) if "class_path" in given else given):
            print(f"  --{key.name} {key.value}".rstrip())
            for line in textwrap.wrap(key.text, _WIDTH - 6):
                print(f"      {line}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # another encoding, 5000 digits, 1000 brackets
        raise ValueError(f"--config {file}: not a YAML file: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"--config {file}: must be a mapping of keys such as trainer and model; got {content!r:.60}")
    return content


def keys(path: str, prefix: str, given: Mapping[str, Any]) -> Iterator[Key]:
    """Yield the keys of a class or function, and of the classes that its arguments take.

    Args:
        path: its dotted path.
        prefix: what its keys begin with.
        given: its arguments in the configuration.
    """
    for parameter in _parameters(path):
        value, name = given.get(parameter.name), f"{prefix}.{parameter.name}"
        inner, settings = _inner(parameter, value)
        shown = "" if inner and isinstance(value, Mapping) else _shown(value, parameter)
        yield Key(name, shown if not inner or shown in ("None", "null") else inner, parameter.text)
        if inner and shown not in ("None", "null"):
            yield from keys(inner, name, settings)


def _shown(value: Any, parameter: _Parameter) -> str:
    if value is None:
        return parameter.default
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _inner(parameter: _Parameter, value: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the class that an argument's value is made of, and its arguments; empty if it is a plain value."""
    settings = value if isinstance(value, Mapping) else {}
    if "class_path" in settings:
        return str(settings["class_path"]), settings.get("init_args") or {}
    if parameter.annotation is None:
        return "", {}
    names = [node.id for node in ast.walk(parameter.annotation) if isinstance(node, ast.Name)]
    for name in names:
        node, module = _definition(f"{parameter.module}.{name}")
        if isinstance(node, ast.ClassDef) and module.startswith(f"{_OWN}.") and list(_parameters(f"{module}.{name}")):
            return f"{module}.{name}", settings.get("init_args", settings)
    return "", {}


@cache
def _parameters(path: str) -> tuple[_Parameter, ...]:
    """Return the arguments of a class or function with their descriptions; none if its source is not found."""
    node, module = _definition(path)
    if node is None:
        return ()
    made = node
    if isinstance(node, ast.ClassDef):
        made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), node)
    texts = _texts(ast.get_docstring(node) or "") | _texts((made is not node and ast.get_docstring(made)) or "")
    found: list[tuple[str, ast.expr | None, ast.expr | None]]
    if isinstance(made, ast.ClassDef):
        fields = [n for n in made.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        found = [(n.target.id, n.annotation, n.value) for n in fields if isinstance(n.target, ast.Name)]
    else:
        given, named = made.args.args, made.args.kwonlyargs
        defaults = [None] * (len(given) - len(made.args.defaults)) + [*made.args.defaults, *made.args.kw_defaults]
        found = [(a.arg, a.annotation, d) for a, d in zip([*given, *named], defaults, strict=True)]
    return tuple(
        _Parameter(name, kind, ast.unparse(value) if value else "", texts.get(name, ""), module)
        for name, kind, value in found
        if name != "self"
    )


def _texts(docstring: str) -> dict[str, str]:
    """Return the descriptions in the ``Args`` or ``Attributes`` of a docstring in Google style."""
    found: dict[str, str] = {}
    for section in re.findall(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE):
        for name, text in re.findall(
            r"^(\w+)(?: ?\([^)]*\))?:((?:.|\n(?!\w))*)", inspect.cleandoc(section), re.MULTILINE
        ):
            words = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", " ".join(text.split()))
            found[name] = words.replace("``", "")
    return found


@cache
def _definition(path: str) -> tuple[ast.ClassDef | ast.FunctionDef | None, str]:
    """Find the class or function that a dotted path names, through imports; with the module that defines it."""
    module, _, name = path.rpartition(".")
    for _ in range(_REEXPORTS):
        body = _body(module)
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return node, module
        imports = [(n.module, a) for n in body if isinstance(n, ast.ImportFrom) and not n.level for a in n.names]
        source = next(((m, a.name) for m, a in imports if m and (a.asname or a.name) == name), None)
        if source is None:
            return None, module
        module, name = source
    return None, module


@cache
def _body(module: str) -> list[ast.stmt]:
    """Return the statements of a module, without importing it; empty if it has no source."""
    top, *rest = module.split(".")
    try:
        found = find_spec(top)  # of a package's parts, it would import the package
    except (ImportError, ValueError):
        return []
    for folder in (found and found.submodule_search_locations) or []:
        base = Path(folder, *rest)
        for file in (base / "__init__.py", base.with_suffix(".py")):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8")).body
    return []


def _merge(config: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Lay a later configuration over an earlier one, in place; another class starts from nothing."""
    for name, value in later.items():
        before = config.get(name)
        same = isinstance(value, Mapping) and value.get("class_path", "") in ("", (before or {}).get("class_path"))
        if isinstance(before, dict) and isinstance(value, Mapping) and same:
            _merge(before, value)
        else:
            config[name] = dict(value) if isinstance(value, Mapping) else value
