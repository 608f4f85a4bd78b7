"""Start a part of a module from published weights, in the layout of diffusers or transformers."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.models.lora import load_plain
from vlad_lightning.models.painter.widened import settings_once_widened
from vlad_lightning.models.published import Source
from vlad_lightning.models.published_settings import (
    compare_schedules,
    compare_second_tokenizer,
    compare_settings,
    compare_tokenizer,
)


class FromPretrained(Callback):
    """Fills ``part`` with published weights; safetensors only, and nothing may be missing.

    What the source holds beside the part, such as the other tower of a CLIP, is left out. Settings that the weights do
    not show, such as the number of attention heads, must be the part's own. An image generator that was widened for the
    fusion keeps its columns of zeros: it begins as the published one (:mod:`~vlad_lightning.models.painter.widened`).

    Args:
        part: dotted name of a submodule whose class has ``from_pretrained``, such as ``image_generator.vfe.unet``.
        source: a local folder, a hub id, or a local .safetensors file as the original repositories publish it.
        subfolder: of the source, such as ``unet``.
        revision: a commit of the hub, which a hub id needs.
        config: for a single file: a local folder in diffusers' layout whose ``<subfolder>/config.json`` describes it.

    Raises:
        OSError: where the source cannot be found.
        ValueError: where its weights do not fill the part exactly, or its settings differ from the part's.
    """

    def __init__(
        self,
        part: str,
        source: str,
        subfolder: str = "",
        revision: str | None = None,
        config: str | None = None,
    ) -> None:
        self.part = part
        self.source = Source(source, subfolder, revision, config)

    @property
    def state_key(self) -> str:
        """One state for each part."""
        return f"FromPretrained[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fill the part when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:  # what is resumed from holds everything
            return
        part: Any = pl_module.get_submodule(self.part)
        try:
            state, settings = self.source.load(part)
        except ValueError as error:
            raise ValueError(f"{self.source} does not fill {self.part!r}: {error}") from error
        try:
            settings = settings_once_widened(part, settings)
            load_plain(part, state)
            compare_settings(part, settings)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self.source} does not fit {self.part!r}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Where the part came from."""
        return _origin(self.source)


class TokenizerFromPretrained(Callback):
    """Gives a text encoder a published tokenizer.

    Args:
        part: dotted name of the :class:`~vlad_lightning.models.text.encoder.TextEncoder`.
        source: a local folder, or a hub id.
        subfolder: of the source, such as ``tokenizer``.
        revision: a commit of the hub, which a hub id needs.
        second_subfolder: of SDXL's second tokenizer; it may differ from the first in its padding only.

    Raises:
        OSError: where the source cannot be found.
        ValueError: where the tokenizer does not fit the encoder's tower.
    """

    def __init__(
        self,
        part: str,
        source: str,
        subfolder: str = "",
        revision: str | None = None,
        second_subfolder: str | None = None,
    ) -> None:
        self.part = part
        self.source = Source(source, subfolder, revision)
        self.second = None if second_subfolder is None else Source(source, second_subfolder, revision)

    @property
    def state_key(self) -> str:
        """One state for each part."""
        return f"TokenizerFromPretrained[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the tokenizer when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:
            return
        encoder: Any = pl_module.get_submodule(self.part)
        tokenizer = self.source.load_tokenizer()
        try:
            compare_tokenizer(tokenizer, encoder.tower)
            if self.second is not None:
                compare_second_tokenizer(tokenizer, self.second.load_tokenizer(), encoder.tower)
        except ValueError as error:
            raise ValueError(f"{self.source} does not fit {self.part!r}: {error}") from error
        encoder.tokenizer = tokenizer


class SameSchedule(Callback):
    """Refuses to train with another noise schedule than the one that published weights were trained with.

    The schedule stays the configuration's own, so that ``test`` and ``predict`` need no source.

    Args:
        part: dotted name of the schedule, such as ``image_generator.schedule``.
        source: a local folder, or a hub id.
        subfolder: of the source.
        revision: a commit of the hub, which a hub id needs.

    Raises:
        OSError: where the source cannot be found.
        ValueError: where the schedules, or what they predict, differ.
    """

    def __init__(self, part: str, source: str, subfolder: str = "scheduler", revision: str | None = None) -> None:
        self.part = part
        self.source = Source(source, subfolder, revision)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:
            return
        try:
            compare_schedules(attrgetter(self.part)(pl_module), self.source.load_schedule())
        except ValueError as error:
            raise ValueError(f"{self.source} does not fit {self.part!r}: {error}") from error


def _origin(source: Source) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "source": source.location,
        "subfolder": source.subfolder,
        "revision": source.revision,
    }
    return kept if source.config is None else kept | {"config": source.config}
