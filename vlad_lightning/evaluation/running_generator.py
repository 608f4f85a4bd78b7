"""One generator that runs over all prompts, as MARIO-Eval's published script has it, with its state kept in a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import torch

from vlad_lightning.files import NOTE_BYTES, printable, read_utf8, write_text

RUNNING_RULE = "one torch.Generator of the CPU, seeded once, runs over all prompts in the order of the list"
"""The rule in words, for ``generation.json``."""

_DONE, _STATE = "prompts_done", "state"


class RunningGenerator:
    """A generator on the CPU whose state after each prompt is kept, so that a stopped run goes on with the same noise.

    Args:
        path: the file of its state; if it exists, the generator goes on from there.
        seed: its seed.

    Raises:
        ValueError: if the file is no such state.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.done = 0
        self._path = path
        if path.exists():
            self._go_on()

    def keep(self) -> None:
        """Write the state after one more prompt."""
        self.done += 1
        state = base64.b64encode(self.generator.get_state().numpy().tobytes()).decode()
        write_text(self._path, json.dumps({_DONE: self.done, _STATE: state}) + "\n")

    def _go_on(self) -> None:
        try:
            told = json.loads(read_utf8(self._path, NOTE_BYTES))
            self.done = int(told[_DONE])
            state = bytearray(base64.b64decode(told[_STATE], validate=True))
            self.generator.set_state(torch.frombuffer(state, dtype=torch.uint8))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"{printable(self._path)} is no state of a generator: {error}; remove its folder"
            ) from error
