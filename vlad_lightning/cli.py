"""The command line of the stages: a thin LightningCLI, and the only file that knows jsonargparse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from vlad_lightning.config_files import configs_folder
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline

_PREFIXES = ("vlad_lightning.", "lightning.", "torch.", "torchvision.", "torchmetrics.", "diffusers.", "transformers.")


class VLADCLI(LightningCLI):
    """LightningCLI with ``--out``, the folder of a run; ``{out}`` in any text of a config stands for it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--out``."""
        parser.add_argument("--out", type=str, default="runs/default", help="folder of the run; {out} stands for it")

    def before_instantiate_classes(self) -> None:
        """Put the folder in its places, and refuse classes from elsewhere."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        filled = fill(config, config["out"])
        if self.subcommand:
            self.config[self.subcommand] = filled
        else:
            self.config = filled
        check_class_paths(filled)


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


def check_class_paths(value: Any) -> None:
    """Refuse a config that names a class outside the libraries this package builds on: a config is code.

    Raises:
        ValueError: naming the class path.
    """
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        path = value.get("class_path")
        if isinstance(path, str) and not path.startswith(_PREFIXES):
            raise ValueError(f"class_path {path!r} is not allowed; it must start with one of {', '.join(_PREFIXES)}")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            check_class_paths(part)


def build(args: Sequence[str], run: bool) -> VLADCLI:
    """Parse, build, and where ``run`` is True do what the subcommand says."""
    return VLADCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"default_config_files": [str(configs_folder() / "base.yaml")]}
        if not run
        else {
            name: {"default_config_files": [str(configs_folder() / "base.yaml")]}
            for name in ("fit", "validate", "test", "predict")
        },
        args=list(args),
        run=run,
    )


def main(args: Sequence[str]) -> None:
    """``vlad-cli fit|validate|test|predict``: ``args`` starts with the subcommand."""
    build(args, run=True)


def export(args: Sequence[str]) -> None:
    """``vlad-cli export --config ... --checkpoint FILE --folder DIR``: a stage-2 checkpoint as a pipeline folder."""
    raise SystemExit(0)
