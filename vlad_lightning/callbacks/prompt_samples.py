"""Samples of the user's own prompts while a stage trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.callbacks.sample_sheets import (
    Reader,
    SampleSheets,
    caption,
    draw,
    draws,
    readings,
    ready_to_draw,
)
from vlad_lightning.files import read_prompt_lines, told_at
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts, check_whole

_MOST = 64  # prompts on a sheet


class PromptSamples(Callback):
    """Samples of given prompts before the first step and every ``every`` steps, the same noise for a prompt each time.

    Stage 2 draws images and layouts, stage 1 layouts; a stage that draws neither is left alone. The sheets are
    ``samples/step-000000500.png`` in the folder of the stage, and in every logger that takes pictures. Beneath each
    picture stand its prompt, the words to draw, and what OCR reads. A resumed fit does not draw step 0 again. The
    averaged weights draw if there are any. The first rank draws, or all if they share the weights.

    Args:
        prompts: a text file in UTF-8 with a prompt a line, the name of a shipped one, such as ``demo_prompts.txt``, or
            a list of prompts; None draws nothing.
        every: optimizer steps between two sheets, at least 1.
        at_start: also draw before the first step.
        columns: pictures per row.
        ocr: reads the pictures; None reads nothing.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not in UTF-8, has no prompt, too many or too long ones, or a number is out of its range.
    """

    def __init__(
        self,
        prompts: str | list[str] | None = None,
        every: int = 500,
        at_start: bool = True,
        columns: int = 4,
        ocr: Reader | None = None,
    ) -> None:
        check_whole("samples.every", every, 1, 2**31)
        check_whole("samples.columns", columns, 1, _MOST)
        self.prompts = _read(prompts) if isinstance(prompts, str) else list(prompts or [])
        if prompts is not None:
            check_whole("the number of samples.prompts", len(self.prompts), 1, _MOST)
            check_prompts(self.prompts)
        self.every, self.at_start, self.columns, self.ocr = every, at_start, columns, ocr
        self._sheets: SampleSheets | None = None
        self._seen_step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the folder, on every rank."""
        self._sheets = SampleSheets(trainer, "step", "prompts") if self.prompts and hasattr(pl_module, "draw") else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw before the first step, unless the fit is resumed."""
        self._seen_step = trainer.global_step
        if self.at_start and trainer.global_step == 0 and not trainer.ckpt_path:
            self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw after every ``every``-th optimizer step."""
        if trainer.global_step == self._seen_step:  # gradients are accumulating
            return
        self._seen_step = trainer.global_step
        if trainer.global_step % self.every == 0:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._sheets is None or not draws(trainer, pl_module):
            return
        with ready_to_draw(trainer, pl_module):
            drawn = draw(trainer, pl_module, self.prompts)
        if not trainer.is_global_zero:  # it only took part in gathering the weights
            return
        found = zip(self.prompts, readings(self.ocr, drawn), strict=True)
        captions = [caption(prompt, drawn_words(prompt), read) for prompt, read in found]
        self._sheets.show(trainer, drawn, captions, self.columns)


def _read(path: str) -> list[str]:
    with told_at(f"--samples.prompts {path}"):
        return read_prompt_lines(Path(path))
