"""Reading of a pipeline file: its stages, checked strictly, with the placeholders filled in.

    out: runs/mini
    data: {train: "{out}/data/train", test: "{out}/data/test"}   # MARIO-format folders; `test` may be left out
    stages:
      - {name: posters, command: synth, args: [--out, "{data}", --samples, 4000]}
      - {name: stage0, command: fit, config: mini/stage0_align.yaml, args: ["--data.root={data}"]}

``{out}``, ``{data}`` and ``{test_data}`` stand for those folders; ``{test_data}`` is ``null`` if there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlad_lightning.files import find_config

COMMANDS = ("synth", "fit", "validate", "test", "predict", "export", "generate")
PLAIN = ("synth", "generate")  # their settings are in no configuration file
SETTINGS = (  # settings groups: `--data.size 64` goes to every stage, and no stage may have such a name
    *("data", "model", "trainer", "optimizer", "lr_scheduler", "checkpoints", "resume", "preemption", "step_guard"),
    *("roll_back", "throughput", "watchdog", "weight_census", "summary", "samples"),
)
_PIPELINE_KEYS = {"out", "data", "stages"}
_STAGE_KEYS = {"name", "command", "config", "args", "inputs", "outputs"}


@dataclass(frozen=True)
class Stage:
    """One command of a pipeline, ready to be run.

    Attributes:
        name: unique; also its folder's name under the pipeline's ``out``.
        command: one of :data:`COMMANDS`.
        config: configuration files; later files override earlier ones.
        args: the other arguments on its command line.
        inputs: files or folders of earlier stages that it reads; must exist when it starts.
        outputs: files or folders that it must write.
    """

    name: str
    command: str
    config: tuple[Path, ...] = ()
    args: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()

    @property
    def command_line(self) -> tuple[str, ...]:
        """The arguments of ``vlad-cli`` that run the stage."""
        files = [part for path in self.config for part in ("--config", str(path))]
        return (self.command, *files, *self.args)


@dataclass(frozen=True)
class Pipeline:
    """Stages that follow each other.

    Attributes:
        out: folder for everything that is written.
        data: training posters, in MARIO's format; None if the stages need no folder of them.
        test_data: posters to test on; None uses the test split of ``data``.
        stages: the stages in the order in which they run.
    """

    out: Path
    data: Path | None
    test_data: Path | None
    stages: tuple[Stage, ...]


def read_pipeline(
    path: str | Path, out: Path | None = None, data: Path | None = None, test_data: Path | None = None
) -> Pipeline:
    """Read and check a pipeline file.

    Args:
        path: a YAML file, or the name of a shipped one.
        out: replaces the file's ``out``.
        data: the user's own training posters, replacing ``data.train``; the ``synth`` stages that would write there are
            left out, and so is the file's test data, which would not match the user's posters.
        test_data: the user's own posters to test on, replacing ``data.test``; ``synth`` stages likewise.

    Raises:
        FileNotFoundError: if the file or a configuration it names does not exist.
        ValueError: if it is not YAML, or has unknown, missing or malformed entries; if data are given for stages that
            read no folder of them.
    """
    file = find_config(path)
    content = _mapping(_load(file), str(file), allowed=_PIPELINE_KEYS, required={"stages"})
    out = out or Path(_text(content.get("out", f"runs/{file.stem}"), f"{file}: out"))
    values = {"out": str(out)}
    if "data" in content:
        _fill_data(values, content["data"], file, data, test_data)
    elif data or test_data:
        raise ValueError(f"--data or --test-data is given; the stages of {file} read no folder of posters")
    given = {name for name, folder in (("data", data), ("test_data", test_data or data)) if folder}
    entries = _list(content["stages"], f"{file}: stages")
    stages = tuple(_stage(entry, i, file, values) for i, entry in enumerate(entries) if not _makes(entry, given))
    _check_names(stages, file)
    data, test_data = (None if values.get(k, "null") == "null" else Path(values[k]) for k in ("data", "test_data"))
    return Pipeline(out, data, test_data, stages)


def _fill_data(values: dict[str, str], folders: Any, file: Path, data: Path | None, test_data: Path | None) -> None:
    """Add the data folders to the placeholders' values: those of the file, unless the user gave others."""
    folders = _mapping(folders, f"{file}: data", allowed={"train", "test"}, required={"train"})
    shipped_test = None if data else folders.get("test")
    values["data"] = str(data or _interpolate(_text(folders["train"], f"{file}: data.train"), values, str(file)))
    values["test_data"] = str(test_data or "null")
    if test_data is None and shipped_test is not None:
        values["test_data"] = _interpolate(_text(shipped_test, f"{file}: data.test"), values, str(file))


def _load(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # another encoding, 5000 digits, 1000 brackets
        raise ValueError(f"{file}: not a YAML file: {error}") from error


def _makes(entry: Any, given: set[str]) -> bool:
    """Return whether a ``synth`` stage would write into a folder that the user gave; such a stage is left out."""
    if not isinstance(entry, Mapping) or entry.get("command") != "synth":
        return False
    return any(f"{{{name}}}" in str(entry.get("args")) for name in given)


def _stage(entry: Any, index: int, file: Path, values: dict[str, str]) -> Stage:
    where = f"{file}: stages[{index}]"
    entry = _mapping(entry, where, allowed=_STAGE_KEYS, required={"name", "command"})
    command = _text(entry["command"], f"{where}.command")
    if command not in COMMANDS:
        raise ValueError(f"{where}: command is {command!r}; allowed are {', '.join(COMMANDS)}")

    def texts(key: str) -> tuple[str, ...]:
        value = entry.get(key, [])
        items = [value] if isinstance(value, str) else _list(value, f"{where}.{key}")
        return tuple(_interpolate(_text(item, f"{where}.{key}"), values, where) for item in items)

    return Stage(
        name=_text(entry["name"], f"{where}.name"),
        command=command,
        config=tuple(find_config(name, file.parent) for name in texts("config")),
        args=texts("args"),
        inputs=tuple(map(Path, texts("inputs"))),
        outputs=tuple(map(Path, texts("outputs"))),
    )


def _check_names(stages: tuple[Stage, ...], file: Path) -> None:
    seen: set[str] = set()
    for stage in stages:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", stage.name) or stage.name in SETTINGS:
            raise ValueError(
                f"{file}: stage name is {stage.name!r}; allowed are letters, digits, '_' and '-', "
                f"but not {', '.join(SETTINGS)}"
            )
        if stage.name in seen:
            raise ValueError(f"{file}: two stages are named {stage.name!r}; names must differ")
        seen.add(stage.name)
    if not stages:
        raise ValueError(f"{file}: stages is empty; at least one is needed")


def _interpolate(text: str, values: dict[str, str], where: str) -> str:
    """Return ``text`` with its placeholders replaced."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ValueError(f"{where}: unknown placeholder {match[0]}; allowed are {{{'}, {'.join(values)}}}")
        return values[match[1]]

    return re.sub(r"\{(\w+)\}", value, text)


def _mapping(value: Any, where: str, allowed: set[str], required: set[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be a mapping with the keys {', '.join(sorted(allowed))}; got {value!r}")
    if unknown := set(value) - allowed:
        raise ValueError(
            f"{where}: unknown key {', '.join(sorted(map(repr, unknown)))}; allowed are {', '.join(sorted(allowed))}"
        )
    if missing := required - set(value):
        raise ValueError(f"{where}: missing key {', '.join(sorted(map(repr, missing)))}")
    return dict(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: must be a list; got {value!r}")
    return value


def _text(value: Any, where: str) -> str:
    """Return a YAML scalar as a command-line argument."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float) and str(value):
        return str(value)
    raise ValueError(f"{where}: must be a text or a number; got {value!r}")
