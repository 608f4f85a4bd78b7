"""Which published weights a checkpoint began with, through whatever stages they came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KEY = re.compile(r"(FromPretrained|InitFrom)\[(.*)\]")


def origins(callbacks: Mapping[str, Mapping[str, Any]], part: str = "") -> tuple[str, ...]:
    """Hub ids and folders of the published weights, in the order of the alphabet.

    Args:
        callbacks: the callbacks' states in a checkpoint, by their keys: those of
            :class:`~vlad_lightning.callbacks.FromPretrained` say what was read there, those of
            :class:`~vlad_lightning.callbacks.InitFrom` what the earlier stages had read. States of before there was
            ``sources`` say nothing of the earlier stages.
        part: dotted name of a submodule; only what went into it counts. Empty means all.
    """
    found: set[str] = set()
    for key, state in callbacks.items():
        match = _KEY.fullmatch(key)
        if match and _overlap(match[2], part):
            found |= {state["source"]} if match[1] == "FromPretrained" else set(state.get("sources", ()))
    return tuple(sorted(found))


def _overlap(first: str, second: str) -> bool:
    """Whether one submodule is, or is in, the other; the empty name is the whole module."""
    return not second or f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")
