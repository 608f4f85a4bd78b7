"""The command line of the stages: a thin LightningCLI, and the only file that knows jsonargparse."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from vlad_lightning.config_files import configs_folder
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline

_ALLOWED = ["vlad_lightning", "lightning", "torch", "torchvision", "torchmetrics", "diffusers", "transformers"]
_INDEX = DiffusionPipeline.config_name
_SUBCOMMANDS = ("fit", "validate", "test", "predict")


class VLADCLI(LightningCLI):
    """LightningCLI with ``--out``, the folder of a run; ``{out}`` in any text of a config stands for it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--out``."""
        parser.add_argument("--out", type=str, default="runs/default", help="folder of the run; {out} stands for it")

    def before_instantiate_classes(self) -> None:
        """Put the folder in its places."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        filled = fill(config, config["out"])
        if self.subcommand:
            self.config[self.subcommand] = filled
        else:
            self.config = filled

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit, before anything starts."""
        path = self.config[self.subcommand].get("ckpt_path") if self.subcommand else None
        if path and Path(path).is_file():
            load_checkpoint(self.model, Path(path))


def fill(value: Any, out: str) -> Any:
    """``value`` with ``{out}`` replaced in every text it holds."""
    if isinstance(value, str):
        return value.replace("{out}", out)
    if isinstance(value, Namespace):
        return Namespace(**{k: fill(v, out) for k, v in vars(value).items()})
    if isinstance(value, dict):
        return {k: fill(v, out) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fill(v, out) for v in value)
    return value


def build(args: Sequence[str], run: bool) -> VLADCLI:
    """Parse, build, and where ``run`` is True do what the subcommand says.

    A config is code: a class it names is imported. So only the libraries this package builds on may be named, which is
    checked before the import.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=_ALLOWED)
    defaults = {"default_config_files": [str(configs_folder() / "base.yaml")]}
    if not torch.cuda.is_available():
        # on a CPU the flash kernel's backward pass is several times slower than plain products at these sizes
        torch.backends.cuda.enable_flash_sdp(False)
    return VLADCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs=dict.fromkeys(_SUBCOMMANDS, defaults) if run else defaults,
        # LightningCLI warns of arguments that it could have read itself
        args=None if list(args) == sys.argv[1:] else list(args),
        run=run,
    )


def main(args: Sequence[str]) -> None:
    """``vlad-cli fit|validate|test|predict``: ``args`` starts with the subcommand."""
    build(args, run=True)


def export(args: Sequence[str]) -> None:
    """``vlad-cli export --checkpoint FILE --folder DIR --config ...``: a stage-2 checkpoint as a pipeline folder.

    Args:
        args: what follows ``export``; the rest after the first two options is the stage's configuration.

    Raises:
        FileNotFoundError: where there is no such checkpoint.
        ValueError: where the folder holds something else than a pipeline, or the checkpoint does not fit.
    """
    parser = argparse.ArgumentParser("vlad-cli export", description=(export.__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="of stage 2, a .ckpt file")
    parser.add_argument("--folder", type=Path, required=True, help="new folder of the pipeline")
    options, rest = parser.parse_known_args(args)
    if not options.checkpoint.is_file():
        raise FileNotFoundError(f"--checkpoint {options.checkpoint} does not exist")
    folder = options.folder
    if folder.exists() and any(folder.iterdir()) and not (folder / _INDEX).is_file():
        raise ValueError(f"--folder {folder} holds something else than a pipeline; name a new one")
    module = build(rest, run=False).model
    if not isinstance(module, VFEModule):
        raise ValueError(f"the config builds {type(module).__name__}; export needs stage 2, VFEModule")
    load_checkpoint(module, options.checkpoint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        VLADPipeline.from_module(module).save_pretrained(Path(beside, "new"))
        if folder.exists():
            folder.replace(Path(beside, "old"))
        Path(beside, "new").replace(folder)
    print(f"wrote {folder}")


def load_checkpoint(module: LightningModule, checkpoint: Path) -> None:
    """Load a checkpoint's weights strictly.

    Raises:
        ValueError: where it is of another stage or shape.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except (UnpicklingError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{checkpoint} is no checkpoint of Lightning: {shorten(str(error), 200)}") from error
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint} does not fit {type(module).__name__} of this config; it is of another stage or shape: "
            f"{shorten(str(error), 500)}"
        ) from error
