"""Image files of prompts: which file belongs to which prompt, by name, and what a PNG says of itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlad_lightning.evaluation.suite import Item, Suite
from vlad_lightning.files import open_picture, pictures_below, printable, told_at

_NUMBERED = re.compile(r"(.+)_(\d+)")
_DIGITS = re.compile(r"^0+(?=\d)")
_SEED = re.compile(r"\bSeed: (\d+)")
_NAMED = 5  # keys and files in a message
_OURS = "vlad-lightning"


@dataclass(frozen=True)
class ImageFile:
    """An image of a prompt.

    Attributes:
        item: the prompt.
        number: which of the prompt's images it is, from 0.
        path: the file.
    """

    item: Item
    number: int
    path: Path


def find_images(folder: Path, suite: Suite, images_per_prompt: int | None = None) -> list[ImageFile]:
    """Find the images of every prompt of a suite, in its order.

    The images of the prompt ``animals/3`` are ``animals/3_0.png``, ``animals/3_1.png``, ..., or ``animals/3.png`` if it
    has one, with any of :data:`~vlad_lightning.files.PICTURE_SUFFIXES`. Numbers may have leading zeros. Hidden files
    are skipped.

    Args:
        folder: the folder.
        suite: the prompts.
        images_per_prompt: how many images each prompt must have; None takes as many as there are, the same for each.

    Raises:
        FileNotFoundError: if there is no such folder, or there are no images in it.
        ValueError: if the files are not those of the prompts, or two files are the same image.
    """
    check_keys(suite)
    with told_at("--images"):
        files = pictures_below(folder, _plain)
    claimed = _by_prompt(files)
    wanted = {_plain(item.key): item for item in suite.items}
    found = {key: _numbers(files, claimed, key, wanted) for key in wanted}
    _refuse_missing(folder, found, wanted)
    _refuse_counts(found, wanted, images_per_prompt)
    used = Counter(path for images in found.values() for path in images.values())
    if twice := [path.name for path, times in used.items() if times > 1]:
        raise ValueError(f"{_list(twice)} could belong to two prompts each; rename their keys")
    if unused := [path.relative_to(folder).as_posix() for path in files.values() if path not in used]:
        raise ValueError(f"--images {folder} holds {len(unused)} images that belong to no prompt: {_list(unused)}")
    return [ImageFile(item, number, found[key][number]) for key, item in wanted.items() for number in found[key]]


def check_keys(suite: Suite) -> None:
    """Refuse keys that cannot name files, or that name the same files.

    Raises:
        ValueError: naming the key.
    """
    seen: dict[str, str] = {}
    for item in suite.items:
        parts = item.key.split("/")
        if any(part.strip(". ") != part or not part.isprintable() or not part for part in parts) or "\\" in item.key:
            raise ValueError(f"the key {item.key!r} is no relative path without suffix, such as animals/3")
        if (name := _plain(item.key)) in seen:
            raise ValueError(f"the keys {seen[name]!r} and {item.key!r} name the same files; each prompt needs its own")
        seen[name] = item.key


def seed_of_image(image: ImageFile) -> int | None:
    """Return the seed in a PNG's text, as this project and AUTOMATIC1111's web UI write it; None where there is none.

    Raises:
        ValueError: if the image was made by this project for another prompt.
    """
    told = _text(image.path)
    if told.get("Software", "").startswith(_OURS) and told.get("prompt", image.item.prompt) != image.item.prompt:
        raise ValueError(
            f"{printable(image.path)} was made for the prompt {told['prompt']!r}, and the prompt {image.item.key} is "
            f"{image.item.prompt!r}"
        )
    if told.get("seed", "").isdecimal():
        return int(told["seed"])
    written = _SEED.search(told.get("parameters", ""))
    return int(written[1]) if written else None


def _text(path: Path) -> dict[str, str]:
    """Return the texts of a PNG by keyword; none of a file that cannot be read, which is counted when it is scored."""
    try:
        with open_picture(path) as picture:
            return {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
    except (OSError, SyntaxError, ValueError):
        return {}


def _plain(name: str) -> str:
    """Return a name without leading zeros in the numbers of its last part: ``a/poster_007_0`` -> ``a/poster_7_0``."""
    head, slash, last = name.rpartition("/")
    return head + slash + "_".join(_DIGITS.sub("", part) if part.isdecimal() else part for part in last.split("_"))


def _by_prompt(files: Mapping[str, Path]) -> dict[str, dict[int, Path]]:
    """Return the numbered images of every name that could be a prompt's."""
    images: dict[str, dict[int, Path]] = {}
    for name, path in files.items():
        if numbered := _NUMBERED.fullmatch(name):
            images.setdefault(numbered[1], {})[int(numbered[2])] = path
    return images


def _numbers(
    files: Mapping[str, Path], claimed: Mapping[str, dict[int, Path]], key: str, wanted: Mapping[str, Item]
) -> dict[int, Path]:
    """Return the images of a prompt by number; those of another prompt whose key ends in a number are not its own."""
    images = {number: path for number, path in claimed.get(key, {}).items() if f"{key}_{number}" not in wanted}
    if key in files:
        if images:
            raise ValueError(f"{printable(files[key])} and {printable(min(images.values()))} are both images of {key}")
        images = {0: files[key]}
    return dict(sorted(images.items()))


def _refuse_missing(folder: Path, found: Mapping[str, dict[int, Path]], wanted: Mapping[str, Item]) -> None:
    missing = [wanted[key].key for key, images in found.items() if not images]
    if missing:
        raise ValueError(
            f"--images {printable(folder)} has images of {len(wanted) - len(missing)} of {len(wanted)} prompts; there "
            f"is none for {_list(missing)} (a prompt's images are KEY.png, or KEY_0.png, KEY_1.png, ...)"
        )


def _refuse_counts(found: Mapping[str, dict[int, Path]], wanted: Mapping[str, Item], needed: int | None) -> None:
    usual = Counter(len(images) for images in found.values()).most_common(1)[0][0] if needed is None else needed
    other = [wanted[key].key for key, images in found.items() if [*images] != [*range(usual)]]
    if other:
        example = found[_plain(other[0])]
        raise ValueError(
            f"{len(other)} of {len(wanted)} prompts do not have the images 0 to {usual - 1}: {_list(other)}; "
            f"{other[0]} has {len(example)}: {', '.join(str(number) for number in example)}"
            + ("" if needed is None else f" (--images_per_prompt is {needed})")
        )


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(printable, names[:_NAMED])) + more
