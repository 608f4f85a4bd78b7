"""How much is too much: what lies beyond is refused by name, before it costs memory or time.

Nothing that anyone means reaches these limits; a slip of the keyboard or a broken file does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from numbers import Integral
from typing import Any

MOST_STEPS = 10_000
"""Of a sampler; 20 to 50 are usual."""

MOST_TIMESTEPS = 100_000
"""Of a schedule; the published ones have 1000."""

MOST_SIDE = 4096
"""Height and width of an image that is painted or trained on, in pixels."""

MOST_IMAGES = 1000
"""Painted by one call: all of them are in memory at once."""

MOST_PIXELS = 2**30
"""Of all the images that one call paints."""

MOST_IN_BATCH = 65_536
"""Samples or prompts of a batch, on one device."""

MOST_PHRASES = 1000
"""Words, and objects, of a layout."""

MOST_CHARACTERS = 10_000
"""Of a prompt, or of the text of a paragraph."""

_MOST_WHOLE = 2**63 - 1
_SHOWN = 120
_OF_KEYS = {
    "num_train_timesteps": MOST_TIMESTEPS,
    "image_size": MOST_SIDE,
    "size": MOST_SIDE,
    "pos_embed_max_size": MOST_SIDE,
    "batch_size": MOST_IN_BATCH,
    "max_words": MOST_PHRASES,
    "max_objects": MOST_PHRASES,
    "max_boxes": MOST_PHRASES,
}


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Refuse what is no whole number in a range.

    Args:
        name: of the setting.
        value: its value.
        least: the smallest that is allowed.
        most: the largest.

    Raises:
        ValueError: naming all of them.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number from {least} to {most:,}")


def check_prompts(prompts: Sequence[object]) -> None:
    """Refuse prompts that are too long, or no texts.

    Raises:
        ValueError: naming the prompt.
    """
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"prompt is {shown(prompt)}; it must be a text")
        if len(prompt) > MOST_CHARACTERS:
            raise ValueError(
                f"prompt {shown(prompt)} has {len(prompt):,} characters; at most {MOST_CHARACTERS:,} are read"
            )


def check_call(prompts: Sequence[object], height: int, width: int) -> None:
    """Refuse more images than one call can paint, and prompts as :func:`check_prompts`.

    Args:
        prompts: one an image.
        height: of each image in pixels.
        width: likewise.

    Raises:
        ValueError: naming how many are allowed.
    """
    most = min(MOST_IMAGES, MOST_PIXELS // (height * width))
    if len(prompts) > most:
        raise ValueError(
            f"prompt has {len(prompts):,} entries; one call paints at most {most:,} images of {width} x {height} pixels"
        )
    check_prompts(prompts)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse a configuration whose objects would fill the memory while they are built, before they can say so.

    So is a whole number that is none of a machine's, which no library takes.

    Args:
        settings: keys and values, in mappings and lists of any depth.

    Raises:
        ValueError: naming the dotted key.
    """
    for key, value in _leaves(settings):
        most = _OF_KEYS.get(key.rpartition(".")[2], _MOST_WHOLE)
        if isinstance(value, int) and value > most:
            name = key.replace(".init_args.", ".")  # which jsonargparse puts between a class and its arguments
            raise ValueError(f"{name} is {shown(value)}; it must be at most {most:,}")


def check_words(words: Sequence[str]) -> None:
    """Refuse what a parser of configurations cannot hold, and tells without the option's name.

    That is a number beyond all floats, and a file's name that is not UTF-8, which no YAML file can keep.

    Args:
        words: of the command line, `--name value` or `--name=value`.

    Raises:
        ValueError: naming the option and the value.
    """
    for word, after in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or (not equals and after.startswith("--")):
            continue
        value = value if equals else after
        if value.isdecimal() and len(value) > sys.float_info.max_10_exp:
            raise ValueError(f"{name[2:]} is {value[:_SHOWN]}...; it must be at most {_MOST_WHOLE:,}")
        if (told := value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")) != value:
            raise ValueError(f"{name[2:]} is {told!r}; it must be UTF-8: a link of another name can stand for it")


def check_share(name: str, value: float) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: naming it.
    """
    if not 0 <= value <= 1:  # nor nan
        raise ValueError(f"{name}={value}: must lie in [0, 1]")


def check_idle(settings: Any, names: Sequence[str], why: str, prefix: str = "") -> None:
    """Refuse settings that would do nothing: what is set is meant.

    Args:
        settings: a frozen dataclass.
        names: of its fields that nothing reads.
        why: that is so.
        prefix: of the names, such as ``training.``.

    Raises:
        ValueError: naming a field that is neither its default nor 0.
    """
    defaults = {field.name: field.default for field in fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name] and value != 0:
            raise ValueError(f"{prefix}{name} is {value}; it must be {defaults[name]}: {why}")


def shown(value: object) -> str:
    """A value in an error: its ``repr``, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 4 :]}"


def _leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _leaves(value, key)
    else:
        yield key, settings
