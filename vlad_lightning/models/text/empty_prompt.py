"""The empty prompt, used if there is no text: parsed once, and read once by a tower that does not change."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import nn

from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.models.text.towers import TowerStates
from vlad_lightning.types import ParsedPrompts


class EmptyPrompt:
    """A cache of the empty prompt, as a text encoder's parser and its tower return it.

    The tower's output is kept as long as nothing of the tower trains, and its weights, their addresses and the
    precision in which it computes stay the same.

    Args:
        parser: the encoder's parser.
    """

    def __init__(self, parser: PromptParser) -> None:
        self._parser = parser
        self._parsed: tuple[object, torch.device, ParsedPrompts] | None = None
        self._states: tuple[Hashable, TowerStates] | None = None

    def parsed(self, device: torch.device) -> ParsedPrompts:
        """Return the empty prompt on a device, parsed by the current tokenizer."""
        tokenizer = self._parser.tokenizer
        if self._parsed is None or self._parsed[0] is not tokenizer or self._parsed[1] != device:
            with torch.inference_mode(False):  # a validation may come first, and training needs it too
                self._parsed = tokenizer, device, self._parser([""]).to(device)
            self._states = None
        return self._parsed[2]

    def is_mine(self, parsed: ParsedPrompts) -> bool:
        """Return whether these prompts are the last result of :meth:`parsed`."""
        return self._parsed is not None and parsed is self._parsed[2]

    def read(self, tower: nn.Module, by: Callable[[], TowerStates]) -> TowerStates:
        """Return the tower's output for the empty prompt.

        Args:
            tower: the encoder's tower.
            by: runs the tower on the empty prompt.
        """
        key = _state_of(tower)
        if key is None:
            return by()
        if self._states is None or self._states[0] != key:
            self._states = key, by()
        return self._states[1]


def _state_of(tower: nn.Module) -> Hashable | None:
    """Return a key of all that the tower's output depends on; None if that is unknown, or if the tower trains.

    A change of a weight, such as loading, increases its ``_version``; a weight that is moved has another address.
    """
    weights = [*tower.parameters(), *tower.buffers()]
    if not weights or any(w.requires_grad or w.is_inference() for w in weights):
        return None
    kind = weights[0].device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    # a tensor made in inference mode cannot be used in training, and kernels round differently in training mode
    modes = torch.is_inference_mode_enabled(), tower.training, precision
    return modes, tuple((w.data_ptr(), w._version) for w in weights)
