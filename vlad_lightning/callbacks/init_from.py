"""Initialisation of a part of a module from an earlier stage's checkpoint, and the provenance of published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from vlad_lightning.checkpoints.folder import digest, read_saved, refuse_address
from vlad_lightning.limits import check_share
from vlad_lightning.models.lora import fold, load_plain

_KEY = re.compile(r"(FromPretrained|FromPipeline|InitFrom)\[(.*)\]")


class InitFrom(Callback):
    """Strict copy of ``source.*`` from a checkpoint into ``part`` before training starts.

    It acts in ``setup("fit")`` and does nothing if the run resumes from a checkpoint. LoRA adapters of the earlier
    stage are folded into its weights. The new checkpoint records the SHA-256 of the earlier one, and the names of the
    published weights that this stage or an earlier one started the part from.

    Args:
        part: dotted name of the submodule to fill, such as ``image_generator.prompt_encoder``.
        checkpoint: the earlier stage's ``.ckpt``, a file or the folder of a sharded run.
        source: name of the part in the checkpoint; None means the same name.
        averaged_with: another checkpoint with this part, of a run that went on from the same weights, with whose
            weights the mean is taken (arXiv 2109.01903): it often keeps what either has learned. None is without.
        share: of that checkpoint's weights in the mean, in [0, 1].

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where a checkpoint is damaged, or its part is missing or has other shapes; for a share that is out
            of its range, or has no effect.
    """

    def __init__(
        self,
        part: str,
        checkpoint: str,
        source: str | None = None,
        averaged_with: str | None = None,
        share: float = 0.5,
    ) -> None:
        check_share("share", share)
        if averaged_with is None and share != 0.5:
            raise ValueError(f"share is {share}; it has no effect: averaged_with is None")
        self.part = part
        self.checkpoint = checkpoint
        self.source = source or part
        self.averaged_with = averaged_with
        self.share = share
        self.sha256 = ""
        self.averaged_sha256 = ""
        self.sources: tuple[str, ...] = ()

    @property
    def state_key(self) -> str:
        """Key of the callback's state in a checkpoint, one for each part."""
        return f"InitFrom[{self.part}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fill the part when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:  # a checkpoint to resume from holds everything
            return
        path, saved = _read("checkpoint", self.checkpoint)
        part = pl_module.get_submodule(self.part)
        self._fill(part, path, saved)
        self.sha256 = digest(path)
        self.sources = provenance(saved.get("callbacks", {}), self.source)
        if self.averaged_with is None:
            return
        own = {name: value.detach().clone() for name, value in part.named_parameters()}
        path, saved = _read("averaged_with", self.averaged_with)
        self._fill(part, path, saved)
        with torch.no_grad():
            for name, value in part.named_parameters():
                value.copy_(own[name].lerp(value, self.share))
        self.averaged_sha256 = digest(path)
        self.sources = tuple(sorted({*self.sources, *provenance(saved.get("callbacks", {}), self.source)}))

    def _fill(self, part: nn.Module, path: Path, saved: dict[str, Any]) -> None:
        prefix = self.source + "."
        state = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
        if not state:
            parts = sorted({k.split(".")[0] for k in saved["state_dict"]})
            raise ValueError(
                f"{path} has no part {self.source!r}; it has {', '.join(parts)}: another stage's checkpoint?"
            )
        try:
            load_plain(part, fold(state, _scales(saved, self.source)))
        except RuntimeError as error:
            raise ValueError(f"{path}: {self.source!r} does not fit {self.part!r} of this config: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the provenance of the part."""
        told: dict[str, Any] = {"checkpoint": self.checkpoint, "source": self.source, "sha256": self.sha256}
        if self.averaged_with is not None:
            told |= {
                "averaged_with": self.averaged_with,
                "share": self.share,
                "averaged_sha256": self.averaged_sha256,
            }
        return told | {"sources": list(self.sources)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the provenance in a resumed fit, which does not read the earlier checkpoint again."""
        self.checkpoint, self.source = state_dict["checkpoint"], state_dict["source"]
        self.sha256 = state_dict["sha256"]
        self.averaged_with, self.share = state_dict.get("averaged_with"), state_dict.get("share", self.share)
        self.averaged_sha256 = state_dict.get("averaged_sha256", "")
        self.sources = tuple(state_dict["sources"])


def _read(name: str, checkpoint: str) -> tuple[Path, dict[str, Any]]:
    """Read an earlier stage's checkpoint."""
    refuse_address(checkpoint)
    path = Path(checkpoint)
    if not path.exists():
        raise FileNotFoundError(f"{name}={checkpoint!r} does not exist; train the earlier stage first")
    return path, read_saved(path)


def _scales(saved: dict[str, Any], source: str) -> float | dict[str, float]:
    """Return alpha / rank of the adapters in ``source``, by the name of the part that has them."""
    if "lora_scales" not in saved:  # a checkpoint with one adapted part
        return float(saved.get("lora_scale", 1.0))
    found = {}
    for part, scale in saved["lora_scales"].items():
        if f"{source}.".startswith(f"{part}."):
            found[""] = scale
        elif part.startswith(f"{source}."):
            found[part.removeprefix(f"{source}.")] = scale
    return found


def provenance(callbacks: Mapping[str, Mapping[str, Any]], part: str = "") -> tuple[str, ...]:
    """Return hub ids and folders of the published weights behind a checkpoint, in alphabetical order.

    Args:
        callbacks: the callbacks' states in a checkpoint, by their keys: those of
            :class:`~vlad_lightning.callbacks.FromPretrained` and :class:`~vlad_lightning.callbacks.FromPipeline` name
            what that stage read, those of :class:`~vlad_lightning.callbacks.InitFrom` what the earlier stages read.
        part: dotted name of a submodule; only weights that were loaded into it count. Empty means all.
    """
    found: set[str] = set()
    for key, state in callbacks.items():
        match = _KEY.fullmatch(key)
        if match and _overlap(match[2], part):
            found |= set(state["sources"]) if match[1] == "InitFrom" else {state["source"]}
    return tuple(sorted(found))


def _overlap(first: str, second: str) -> bool:
    """Return whether one submodule is the other or contains it; the empty name is the whole module."""
    return not first or not second or f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")
