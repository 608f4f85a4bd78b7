"""Sheets of samples that a training draws: as files in the run's folder, and in the loggers that take pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable
from weakref import WeakSet

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from PIL import Image
from torch import Tensor

from vlad_lightning.callbacks.grid import layout_grid, sample_grid
from vlad_lightning.checkpoints.retention import fit_folder
from vlad_lightning.files import write_file
from vlad_lightning.models.fsdp import is_sharded
from vlad_lightning.types import GeneratedImages, Layout

_BATCH = 16  # pictures that are drawn at once
_told: WeakSet[Logger] = WeakSet()  # the loggers of which it has been said that they take no pictures


class Reader(Protocol):
    """Reads text in pictures; the engines of ``vlad_lightning.metrics.ocr_engine`` do."""

    def read(self, images: Tensor) -> list[list[str]]:
        """Return the lines of text in each of (B, 3, H, W) images, float in [-1, 1]."""
        ...


@runtime_checkable
class HoldsAverage(Protocol):
    """A callback that keeps an average of the weights, with which samples are drawn."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module."""
        ...

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        ...

    def trained(self, name: str, standing: Tensor) -> Tensor:
        """Return the trained value of a parameter."""
        ...


class SampleSheets:
    """Where the sheets of a fit go.

    Args:
        trainer: its loggers, and the folder of its checkpoints, in which ``samples`` is made; every rank calls this.
        name: the beginning of the file names: ``{name}-000000500.png`` holds the images of step 500, and
            ``{name}-000000500-layouts.png`` the layouts. They are written during a fit only.
        tag: the loggers' name of the pictures, ``{tag}/images`` and ``{tag}/layouts``.
    """

    def __init__(self, trainer: Trainer, name: str, tag: str = "samples") -> None:
        self.folder = fit_folder(trainer) / "samples" if trainer.state.fn == "fit" else None
        self.name, self.tag = name, tag

    def show(
        self, trainer: Trainer, drawn: GeneratedImages | Sequence[Layout], captions: Sequence[str], columns: int
    ) -> None:
        """Write and log the pictures of this step; only the first rank calls this."""
        sheets = {"layouts": layout_grid(layouts_of(drawn), captions, columns)}
        if isinstance(drawn, GeneratedImages):
            sheets["images"] = sample_grid(drawn.images, captions, columns)
        for kind, figure in sheets.items():
            page = io.BytesIO()
            figure.savefig(page, format="png")
            suffix = "" if kind == "images" or "images" not in sheets else f"-{kind}"
            try:  # a missing picture must not stop the training
                if self.folder is not None:
                    _write(self.folder / f"{self.name}-{trainer.global_step:09d}{suffix}.png", page.getvalue())
                for logger in trainer.loggers:
                    self._log(logger, f"{self.tag}/{kind}", Image.open(page).convert("RGB"), trainer.global_step)
            except OSError as error:
                rank_zero_warn(f"the pictures of step {trainer.global_step} could not be stored: {error}")

    def _log(self, logger: Logger, tag: str, picture: Image.Image, step: int) -> None:
        """Log a picture with W&B's interface or TensorBoard's, whichever the logger has."""
        if callable(log_image := getattr(logger, "log_image", None)):
            log_image(tag, [picture], step=step)
        elif callable(add_image := getattr(getattr(logger, "experiment", None), "add_image", None)):
            add_image(tag, np.asarray(picture), step, dataformats="HWC")
        elif logger not in _told:
            _told.add(logger)
            where = f"; the samples are in {self.folder}" if self.folder else ""
            rank_zero_info(f"{type(logger).__name__} takes no pictures{where}")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda beside: beside.write_bytes(content))


def draws(trainer: Trainer, module: LightningModule) -> bool:
    """Return whether this rank takes part in drawing: the first, and all if they hold parts of the weights."""
    return trainer.is_global_zero or is_sharded(module)


@torch.no_grad()
def draw(
    trainer: Trainer, module: LightningModule, prompts: Sequence[str], keys: Sequence[str] = ()
) -> GeneratedImages | tuple[Layout, ...]:
    """Draw samples with the module's ``draw(prompts, keys)``, in the trainer's precision."""
    found: list[GeneratedImages | tuple[Layout, ...]] = []
    for start in range(0, len(prompts), _BATCH):
        part = slice(start, start + _BATCH)
        with trainer.precision_plugin.forward_context():
            found.append(cast(Any, module).draw(tuple(prompts[part]), tuple(keys[part])))
    if len(found) == 1:
        return found[0]
    layouts = tuple(layout for drawn in found for layout in layouts_of(drawn))
    images = [drawn for drawn in found if isinstance(drawn, GeneratedImages)]
    if not images:
        return layouts
    return GeneratedImages(
        torch.cat([drawn.images for drawn in images]), layouts, torch.cat([drawn.glyphs for drawn in images])
    )


def layouts_of(drawn: GeneratedImages | Sequence[Layout]) -> Sequence[Layout]:
    """Return the layouts of what a module has drawn."""
    return drawn.layouts if isinstance(drawn, GeneratedImages) else drawn


@contextmanager
def ready_to_draw(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Switch a module that trains to evaluation, with the averaged weights if a callback holds them, and back."""
    modes = {part: part.training for part in module.modules()}
    holders = [callback for callback in cast(Any, trainer).callbacks if isinstance(callback, HoldsAverage)]
    module.eval()
    for holder in holders:
        holder.on_validation_start(trainer, module)
    try:
        yield
    finally:
        for holder in holders:
            holder.on_validation_end(trainer, module)
        for part, mode in modes.items():
            part.training = mode


def caption(prompt: str, words: Iterable[str], read: Sequence[str] | None = None) -> str:
    """Return the text beneath a picture: the whole prompt, the words to draw, and what was read, if that is known."""
    parts = [prompt]
    if wanted := " ".join(words):
        parts.append(f"words: {wanted}")
    if read is not None:
        parts.append(f"read: {' '.join(read) or '-'}")
    return "\n".join(parts)


def readings(reader: Reader | None, drawn: GeneratedImages | Sequence[Layout]) -> list[list[str] | None]:
    """Return the lines read on each image; None for each layout, and without a reader."""
    if isinstance(drawn, GeneratedImages) and reader is not None:
        return list(reader.read(drawn.images.float().cpu()))
    return [None] * len(layouts_of(drawn))
