"""Start a part of a module from published weights, in the layout of diffusers or transformers."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import AutoTokenizer

from vlad_lightning.models.lora import load_plain


class FromPretrained(Callback):
    """Fills ``part`` with ``from_pretrained`` of its own class; safetensors only, and nothing may be missing.

    What the source holds beside the part, such as the other tower of a CLIP, is left out.

    Args:
        part: dotted name of a submodule whose class has ``from_pretrained``, such as ``painter.vfe.unet``.
        source: a local folder, or a hub id.
        subfolder: of the source, such as ``unet``.
        revision: a commit of the hub; pin it.

    Raises:
        OSError: where the source cannot be found.
        ValueError: where its weights do not fill the part exactly.
    """

    def __init__(self, part: str, source: str, subfolder: str = "", revision: str | None = None) -> None:
        self.part = part
        self.source, self.subfolder, self.revision = source, subfolder, revision

    @property
    def state_key(self) -> str:
        """One state for each part."""
        return f"FromPretrained[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fill the part when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:  # what is resumed from holds everything
            return
        part: Any = pl_module.get_submodule(self.part)
        loaded, info = type(part).from_pretrained(
            self.source,
            subfolder=self.subfolder,
            revision=self.revision,
            use_safetensors=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"{self.source}/{self.subfolder} does not fill {self.part!r}: it lacks {missing[:5]}")
        try:
            load_plain(part, loaded.state_dict())
        except RuntimeError as error:
            raise ValueError(f"{self.source}/{self.subfolder} does not fit {self.part!r}: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Where the part came from."""
        return {"source": self.source, "subfolder": self.subfolder, "revision": self.revision}


class TokenizerFromPretrained(Callback):
    """Gives a text encoder a published tokenizer.

    Args:
        part: dotted name of the :class:`~vlad_lightning.models.text_encoder.TextEncoder`.
        source: a local folder, or a hub id.
        subfolder: of the source, such as ``tokenizer``.
        revision: a commit of the hub; pin it.
    """

    def __init__(self, part: str, source: str, subfolder: str = "", revision: str | None = None) -> None:
        self.part = part
        self.source, self.subfolder, self.revision = source, subfolder, revision

    @property
    def state_key(self) -> str:
        """One state for each part."""
        return f"TokenizerFromPretrained[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the tokenizer when a fit starts."""
        if stage == "fit" and not trainer.ckpt_path:
            encoder: Any = pl_module.get_submodule(self.part)
            encoder.tokenizer = AutoTokenizer.from_pretrained(
                self.source, subfolder=self.subfolder, revision=self.revision
            )
