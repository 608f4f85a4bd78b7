"""A system that was scored, as its folder tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlad_lightning.evaluation.figures_file import FIGURES, ImageFigures, read_figures
from vlad_lightning.evaluation.results_file import ROWS, read_results
from vlad_lightning.evaluation.row_file import Row, read_rows
from vlad_lightning.evaluation.suite import Item
from vlad_lightning.files import LIST_BYTES, read_utf8, write_text

PROMPTS = "prompts.jsonl"
"""The prompts that were scored, as ``--prompts`` reads them."""


@dataclass(frozen=True)
class ScoredSystem:
    """A folder of ``vlad-cli evaluate score``.

    Attributes:
        folder: the folder.
        name: the system's name in the tables.
        content: its ``results.json``.
    """

    folder: Path
    name: str
    content: Mapping[str, Any]

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of its readers."""
        return tuple(self.content["results"])

    @property
    def images(self) -> Path:
        """The folder of its images, which may be gone."""
        return self.folder / str(self.content["images"]["folder"])

    def result(self, reader: str, figure: str) -> Mapping[str, Any] | None:
        """Return a pooled result of a reader, or one of the distances; None if there is none."""
        pooled = self.content["results"].get(reader, {}).get("pooled", {})
        found = pooled.get(figure) or self.content.get("distances", {}).get(figure)
        return None if found is None else dict(found)

    @cached_property
    def figures(self) -> Mapping[str, ImageFigures]:
        """What each image adds to the figures, by reader."""
        return {reader: read_figures(self.folder / FIGURES / f"{reader}.csv") for reader in self.readers}

    @cached_property
    def prompts(self) -> Mapping[str, Mapping[str, Any]]:
        """Prompt, words and subset by key."""
        lines = read_utf8(self.folder / PROMPTS, LIST_BYTES).splitlines()
        return {entry["key"]: entry for entry in map(json.loads, lines)}

    def rows(self, reader: str) -> list[Row]:
        """Read the rows of a reader."""
        return read_rows(self.folder / ROWS / f"{reader}.csv")


def read_systems(folders: Sequence[Path]) -> list[ScoredSystem]:
    """Read scored folders; systems of the same name get the names of their folders.

    Raises:
        FileNotFoundError: if a folder was not scored.
        ValueError: if they were scored on different prompts, or a folder is given twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a folder is given twice; name each once")
    found = [(folder, read_results(folder)) for folder in folders]
    names = [str(content["system"]) for _, content in found]
    shown = [
        name if names.count(name) == 1 else f"{name} ({f.name})" for name, (f, _) in zip(names, found, strict=True)
    ]
    systems = [ScoredSystem(folder, name, content) for name, (folder, content) in zip(shown, found, strict=True)]
    for system in systems[1:]:
        for what in ("prompts_sha256", "images_per_prompt", "subsets"):
            ours, first = system.content["suite"].get(what), systems[0].content["suite"].get(what)
            if ours != first:
                raise ValueError(
                    f"{system.folder} and {systems[0].folder} were scored on different prompts ({what} differs: {ours} "
                    f"and {first}); pairs need the same"
                )
    if not set.intersection(*(set(system.readers) for system in systems)):
        raise ValueError("the folders have no reader in common; score them with the same --reader")
    return systems


def write_prompts(path: Path, items: Sequence[Item]) -> None:
    """Write the prompts of a suite, a line of JSON each."""
    entries = ({"key": i.key, "prompt": i.prompt, "words": list(i.words), "subset": i.subset} for i in items)
    write_text(path, "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in entries))
