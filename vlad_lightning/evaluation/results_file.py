"""The files of a scored folder: their names, and the results as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlad_lightning.files import NOTE_BYTES, printable, read_utf8

RESULTS = "results.json"
"""The results with what they depend on."""

ROWS = "rows"
"""The folder of the rows, a CSV file for each reader."""

GENERATION = "generation.json"
"""What ``vlad-cli evaluate generate`` writes beside its images."""

_SHA256_DIGITS = 64


def reader_name(provenance: Mapping[str, str], reader: str) -> str:
    """Return a reader's engine with its version and its model files.

    Args:
        provenance: engine, version and the SHA-256 of each model file, as in ``results.json``.
        reader: the reader's name, where the engine does not say its own.
    """
    named = " ".join(filter(None, (provenance.get("engine", reader), provenance.get("version"))))
    models = ", ".join(name for name, value in provenance.items() if len(value) == _SHA256_DIGITS)
    return f"{named} ({models})" if models else named


def read_results(folder: Path) -> dict[str, Any]:
    """Read the ``results.json`` of a scored folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not one of ``vlad-cli evaluate score``.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"{printable(folder)} has no {RESULTS}; `vlad-cli evaluate score` writes it")
    try:
        content = json.loads(read_utf8(path, NOTE_BYTES))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{printable(path)} cannot be read: {error}") from error
    if not isinstance(content, dict) or not {"system", "suite", "readers", "results"} <= content.keys():
        raise ValueError(f"{printable(path)} was not written by `vlad-cli evaluate score`")
    return content


def markdown(content: Mapping[str, Any]) -> str:
    """Return the results as Markdown: what was scored, and a table with a column for each reader, for each part."""
    suite, images = content["suite"], content["images"]
    lines = [
        f"# {content['system']}: {suite['name']}",
        "",
        f"{images['count']} images of {suite['prompts']} prompts, {images['unreadable']} of them unreadable. "
        f"In brackets: {content['statistics']['interval']}.",
        "",
    ]
    lines += [f"{note}\n" for note in suite.get("notes", ())]
    if images["unreadable"]:
        lines += [f"Unreadable: {', '.join(images['unreadable_files'])}", ""]
    readers = content["results"]
    lines += _table(readers, [found["pooled"] for found in readers.values()])
    for subset, count in suite["subsets"].items():
        parts = [found["subsets"].get(subset) for found in readers.values()]
        if all(parts):
            lines += [f"## {subset} ({count} prompts)", "", *_table(readers, parts)]
    lines += [f"- {name}: {reader_name(about, name)}" for name, about in content["readers"].items()]
    lines += [f"- {name}: {_shown(found)}" for name, found in content.get("distances", {}).items()]
    return "\n".join([*lines, f"- prompts: SHA-256 {suite['prompts_sha256']}"]) + "\n"


def _table(readers: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for part in parts for name in part))
    head = [f"| | {' | '.join(readers)} | n |", f"|---|{'---|' * len(readers)}---|"]
    rows = []
    for name in names:
        found = [part.get(name) for part in parts]
        n = next(result["n"] for result in found if result)
        rows.append(f"| {name} | {' | '.join('' if f is None else _shown(f) for f in found)} | {n} |")
    return [*head, *rows, ""]


def _shown(result: Mapping[str, Any]) -> str:
    if result.get("low") is None:
        return f"{result['value']:.4f}"
    return f"{result['value']:.4f} [{result['low']:.3f}, {result['high']:.3f}]"
