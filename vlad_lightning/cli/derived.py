"""Keys of a configuration that are derived from others, so that each width, size and number of words is given once.

LightningCLI's ``link_arguments`` would set the same values, but it overwrites what a user gives, hides the keys from
``--print_config``, and checks the whole model for each of them. Here given values stay, and the classes refuse
contradictory values by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonargparse import Namespace


def complete(config: Namespace) -> None:
    """Fill in the missing keys that follow from others, in place.

    | key | from |
    |---|---|
    | `width` of the composition and the spelling, `text_width` of whatever reads a prompt encoder | its text encoder |
    | `max_phrases` of the composition | `max_words` and `max_objects` of its text encoder |
    | `max_words` of a layout generator's TLG or layout transformer, and of the data | that of the text encoder |
    | `size` of the data | `image_size` of the image generator or of the baseline, or `size` of the detector |

    Args:
        config: the configuration of a command; none of its keys is required.
    """
    model, data = _args(config, "model"), _args(config, "data")
    for reader in _all_args(model):
        text = _args(reader, "prompt_encoder", "text_encoder")
        width, words = _width(text), text.get("max_words")
        _set_missing(_args(text, "character_encoder"), width=width)
        phrases = words + text["max_objects"] if "max_objects" in text and words else None
        _set_missing(_args(reader, "prompt_encoder", "composition"), width=width, max_phrases=phrases)
        for path in (("tlg",), ("layout_transformer",), ("vfe", "fusion"), ("vfe", "phrase_map")):
            _set_missing(_args(reader, *path), text_width=width)
        for placer in ("tlg", "layout_transformer"):
            _set_missing(_args(reader, placer), max_words=words)
    for owner in (model, _args(model, "generator"), _args(model, "image_generator")):
        _set_missing(data, max_words=_args(owner, "prompt_encoder", "text_encoder").get("max_words"))
    _set_missing(data, max_words=_args(model, "baseline", "text_encoder").get("max_words"))
    sizes = (_args(model, "image_generator").get("image_size"), _args(model, "baseline").get("image_size"))
    _set_missing(data, size=next(filter(None, sizes), None) or _args(model, "detector").get("size"))


def _args(config: Namespace, *path: str) -> Namespace:
    """Return the arguments of the class at ``path`` below ``config``; empty if there is none."""
    for key in path:
        part: Any = config.get(key)
        part = part.get("init_args", part) if isinstance(part, Namespace) else None
        config = part if isinstance(part, Namespace) else Namespace()
    return config


def _all_args(args: Namespace) -> Iterator[Namespace]:
    """Yield the arguments of a class and, recursively, of the classes among them."""
    yield args
    for key in vars(args):
        yield from _all_args(_args(args, key))


def _width(text: Namespace) -> int | None:
    """Return a text encoder's width D: its own or its tower's, which transformers classes have in their ``config``."""
    tower = _args(text, "tower")
    own = text.get("width") or tower.get("width") or _args(tower, "config").get("hidden_size")
    return own or (sum(tower["widths"]) if "widths" in tower else None)


def _set_missing(args: Namespace, **values: int | None) -> None:
    for name, value in values.items():
        if name in args and args[name] is None:
            args[name] = value
