"""Initialisation of a part of a module from published weights in the format of diffusers or transformers."""

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
    """Initialisation of ``part`` with published weights; safetensors only, and no weight may be missing.

    Other weights in the source, such as the other tower of a CLIP, are ignored. Settings that do not change the
    weights' shapes, such as the number of attention heads, must equal the part's. An image generator that was widened
    for the fusion keeps its columns of zeros and so starts with the published one's outputs
    (:mod:`~vlad_lightning.models.painter.widened`).

    Args:
        part: dotted name of a submodule whose class has ``from_pretrained``, such as ``image_generator.vfe.unet``.
        source: a local folder, a hub id, the name of a shipped pipeline such as ``vlad-mini``, or a local .safetensors
            file as the original repositories publish it.
        subfolder: subfolder of the source, such as ``unet``.
        revision: commit on the hub; required for a hub id.
        config: for a single file: a local folder in diffusers' format whose ``<subfolder>/config.json`` describes it.

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
        """Key of the callback's state in a checkpoint, one for each part."""
        return f"FromPretrained[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fill the part when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:  # a checkpoint to resume from holds everything
            return
        part: Any = pl_module.get_submodule(self.part)
        try:
            state, settings = self.source.load(part)
        except ValueError as error:
            raise ValueError(f"{self.source} does not fill {self.part!r}: {error}") from error
        try:
            compare_settings(part, settings_once_widened(part, settings))
            load_plain(part, state)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self.source} does not fit {self.part!r}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the provenance of the part."""
        return _origin(self.source)


class TokenizerFromPretrained(Callback):
    """Initialisation of a text encoder with a published tokenizer.

    Args:
        part: dotted name of the :class:`~vlad_lightning.models.text.encoder.TextEncoder`.
        source: a local folder, a hub id, or the name of a shipped pipeline.
        subfolder: subfolder of the source, such as ``tokenizer``.
        revision: commit on the hub; required for a hub id.
        second_subfolder: subfolder of SDXL's second tokenizer, which may differ from the first only in its padding.

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
        """Key of the callback's state in a checkpoint, one for each part."""
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
    """Check that the noise schedule is the one that the published weights were trained with.

    The schedule itself comes from the configuration, so ``test`` and ``predict`` do not need the source.

    Args:
        part: dotted name of the schedule, such as ``image_generator.schedule``.
        source: a local folder, or a hub id.
        subfolder: subfolder of the source.
        revision: commit on the hub; required for a hub id.

    Raises:
        OSError: where the source cannot be found.
        ValueError: where the schedules, or what they predict, differ.
    """

    def __init__(self, part: str, source: str, subfolder: str = "scheduler", revision: str | None = None) -> None:
        self.part = part
        self.source = Source(source, subfolder, revision)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the schedules when a fit starts."""
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
