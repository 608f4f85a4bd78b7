"""The images that a study is drawn from: a folder for each system, with the same relative paths, and their prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlad_lightning.files import (
    LIST_BYTES,
    NOTE_BYTES,
    naming,
    pictures_below,
    printable,
    read_picture,
    read_utf8,
    told_at,
)
from vlad_lightning.limits import check_prompts, shown
from vlad_lightning.studio.study_design import MOST_SYSTEMS

_LONGEST_NAME = 100  # characters of a system's name


@dataclass(frozen=True)
class Sources:
    """Images of several systems.

    Attributes:
        systems: the systems' names, as given.
        images: for each key, the relative path without suffix, the file of each system.
    """

    systems: tuple[str, ...]
    images: Mapping[str, tuple[Path, ...]]


def find_images(given: Sequence[str]) -> Sources:
    """Find the images of all systems.

    Args:
        given: ``NAME=DIR`` of each system.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: for fewer than two systems or a name that occurs twice, for a folder without images, and if the
            systems do not have images of the same prompts.
    """
    folders = _folders(given)
    found = {name: _images(name, folder) for name, folder in folders.items()}
    first, *others = found
    for name in others:
        for has, lacks in ((first, name), (name, first)):
            if missing := sorted(found[has].keys() - found[lacks].keys()):
                raise ValueError(
                    f"--system {lacks}: {printable(folders[lacks])} has no image {printable(missing[0])} as {has} has "
                    f"({len(missing)} such); all systems need images of the same prompts"
                )
    return Sources(tuple(found), {key: tuple(found[name][key] for name in found) for key in sorted(found[first])})


def _folders(given: Sequence[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for pair in given:
        name, equals, folder = pair.partition("=")
        name = name.strip()
        if not equals or not name or not folder:
            raise ValueError(f"--system is {shown(pair)}; it must be NAME=DIR")
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"--system is {shown(pair)}; a name has at most {_LONGEST_NAME} printable characters")
        if name in folders:
            raise ValueError(f"--system {name} is given twice; each system has one folder")
        folders[name] = Path(folder)
    if not 2 <= len(folders) <= MOST_SYSTEMS:
        raise ValueError(f"--system is given {len(folders)} times; a study has from 2 to {MOST_SYSTEMS} systems")
    return folders


def _images(name: str, folder: Path) -> dict[str, Path]:
    """Return the images below a folder by their relative path without suffix."""
    with told_at(f"--system {name}"):
        return pictures_below(folder)


def read_prompts(path: Path) -> dict[str, str]:
    """Read a list of prompts in JSON Lines.

    Args:
        path: the file; each line has ``key``, an image's relative path without suffix, and ``prompt``.

    Returns:
        The prompt of each key.

    Raises:
        OSError: if the file cannot be read.
        ValueError: naming the line that is malformed.
    """
    with naming(path):
        lines = read_utf8(path, LIST_BYTES).split("\n")
    prompts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        with told_at(f"--prompts {path}, line {number}"):
            key, prompt = _key_and_prompt(line)
            if key in prompts:
                raise ValueError(f"the key {key!r} has a prompt already")
            prompts[key] = prompt
    return prompts


def _key_and_prompt(line: str) -> tuple[str, str]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {shown(line)}") from error
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("key", "prompt")):
        raise ValueError(f"{shown(line)} must be an object with the texts key and prompt")
    check_prompts([told["prompt"]])
    return told["key"], told["prompt"]


def prompt_of(key: str, images: Sequence[Path], prompts: Mapping[str, str] | None) -> str:
    """Return the prompt of a key.

    Args:
        key: the key.
        images: its images, one for each system.
        prompts: the list of prompts; None reads the text ``prompt`` of a PNG, as ``vlad-cli generate`` writes it, or
            that of the JSON beside an image, as ``vlad-cli predict`` does.

    Raises:
        OSError: if an image cannot be read.
        ValueError: if there is no prompt, or the systems' images have different ones.
    """
    if prompts is not None:
        if key not in prompts:
            raise ValueError(f"--prompts has no prompt for {key!r}, which {printable(images[0])} needs")
        return prompts[key]
    told = [_stored_prompt(path) for path in images]
    for path, prompt in zip(images, told, strict=True):
        if prompt != told[0]:
            raise ValueError(
                f"{printable(path)} has the prompt {shown(prompt)}, {printable(images[0])} has {shown(told[0])}; "
                "images with the same relative path must have the same prompt"
            )
    return told[0]


def _stored_prompt(path: Path) -> str:
    prompt = read_picture(path).info.get("prompt") or _prompt_beside(path.with_suffix(".json"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"{printable(path)} has no text `prompt`, nor has a JSON beside it; give --prompts FILE")
    check_prompts([prompt])
    return str(prompt)


def _prompt_beside(path: Path) -> object:
    if not path.is_file():
        return None
    with naming(path):
        told = json.loads(read_utf8(path, NOTE_BYTES))
    return told.get("prompt") if isinstance(told, dict) else None
