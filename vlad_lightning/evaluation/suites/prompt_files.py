"""Reading the prompt files that users download; each error is one line that names the file and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.files import NOTE_BYTES, naming, read_utf8
from vlad_lightning.limits import shown

Entry = Mapping[str, Any]

_KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false"}


def needed_path(prompts: Path | None, suite: str, what: str) -> Path:
    """Return the path of a suite's prompt files.

    Args:
        prompts: what the user gave.
        suite: the suite's name, for the messages.
        what: what the path must be, such as ``the folder MARIOEval``.

    Raises:
        ValueError: if there is none.
        FileNotFoundError: if it does not exist.
    """
    if prompts is None:
        raise ValueError(f"prompts is None; the suite {suite!r} needs {what}")
    if not prompts.exists():
        raise FileNotFoundError(f"prompts is {str(prompts)!r}, which does not exist; the suite {suite!r} needs {what}")
    return prompts


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the index of each line that is not blank, from 0, and the line without the space around it.

    Raises:
        ValueError: if there is none, or the file is not text in UTF-8.
    """
    with naming(path):
        lines = read_utf8(path, NOTE_BYTES).split("\n")
    kept = [(index, line.strip()) for index, line in enumerate(lines) if line.strip()]
    if not kept:
        raise ValueError(f"{path} is empty; a subset needs at least one prompt")
    yield from kept


def read_json_lines(path: Path) -> list[tuple[str, Entry]]:
    """Read a file with one JSON object per line.

    Returns:
        For each its place, such as ``prompts.jsonl, line 3``, and the object.

    Raises:
        ValueError: naming the line that is no object.
    """
    entries = []
    for index, line in numbered_lines(path):
        place = f"{path}, line {index + 1}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place} is not JSON: {error}") from error
        entries.append((place, checked_object(entry, place)))
    return entries


def read_data_list(path: Path) -> list[tuple[str, Entry]]:
    """Read the entries of ``data_list`` in a JSON file, as :func:`read_json_lines` returns them.

    Raises:
        ValueError: if the file has no such list, or it is empty.
    """
    with naming(path):
        content = json.loads(read_utf8(path, NOTE_BYTES))
    entries = field(checked_object(content, str(path)), "data_list", list, str(path))
    if not entries:
        raise ValueError(f"{path} is empty; its data_list needs at least one prompt")
    places = [f"{path}, data_list[{index}]" for index in range(len(entries))]
    return [(place, checked_object(entry, place)) for place, entry in zip(places, entries, strict=True)]


def checked_object(value: Any, place: str) -> Entry:
    """Return a value that is a JSON object.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {shown(value)}; it must be an object")
    return value


def field(entry: Entry, name: str, kind: type, place: str) -> Any:
    """Return a field of an entry.

    Args:
        entry: the entry.
        name: the field's name.
        kind: its Python type.
        place: where the entry is, for the messages.

    Raises:
        ValueError: if it is missing or of another kind.
    """
    if name not in entry:
        raise ValueError(f"{place} has no {name!r}; it has {', '.join(sorted(map(str, entry))) or 'no fields'}")
    value = entry[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{place}: {name} is {shown(value)}; it must be {_KINDS[kind]}")
    return value


def texts_of(entry: Entry, name: str, place: str) -> list[str]:
    """Return a field that is a list of texts.

    Raises:
        ValueError: if it is missing or anything else.
    """
    texts: list[str] = field(entry, name, list, place)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{place}: {name} has the entry {shown(text)}; it must be a text")
    return texts


def checked_items(items: list[Item], path: Path) -> tuple[Item, ...]:
    """Return items whose keys differ, and are paths inside the folder of images.

    Raises:
        ValueError: naming a key that occurs twice, or leads out of the folder.
    """
    seen: set[str] = set()
    for item in items:
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in item.key.split("/")):
            raise ValueError(f"{path} has the name {item.key!r}; it must be a plain name, since images are named by it")
        if item.key in seen:
            raise ValueError(f"{path} has the key {item.key!r} twice; each image needs a name of its own")
        seen.add(item.key)
    return tuple(items)
