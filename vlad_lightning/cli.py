"""The command line of the stages: a thin LightningCLI; what jsonargparse is told stands in config_parser."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import yaml
from diffusers import DiffusionPipeline
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_only

from vlad_lightning.callbacks import (
    Checkpoints,
    ConfigLock,
    FitSummary,
    Preempted,
    Preemption,
    RollBack,
    StepGuard,
    StepProgressBar,
    ThroughputLogger,
    Watchdog,
    WeightCensus,
)
from vlad_lightning.callbacks.checkpoints import refuse_to_replace
from vlad_lightning.callbacks.config_lock import flatten
from vlad_lightning.callbacks.lookup import find
from vlad_lightning.checkpoint_folder import is_folder_checkpoint, open_folder, places, read_saved
from vlad_lightning.checkpoints import verify
from vlad_lightning.config_files import configs_folder, find_shipped, named_files
from vlad_lightning.config_parser import Parser, check_config_file, prepare, reason
from vlad_lightning.console import hush
from vlad_lightning.data.resume import ExactResume
from vlad_lightning.fit_lock import refuse_if_held
from vlad_lightning.limits import check_settings, check_words
from vlad_lightning.model_card import Run, read_run, write_card
from vlad_lightning.models.lora_file import save_unet_lora
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.resume import check_config, resolve
from vlad_lightning.slurm_tasks import check_tasks

_INDEX, _LORA = DiffusionPipeline.config_name, "pytorch_lora_weights.safetensors"
_SUBCOMMANDS = ("fit", "validate", "test", "predict")
_OF_EVERY_FIT = {
    "checkpoints": Checkpoints,
    "resume": ExactResume,
    "preemption": Preemption,
    "step_guard": StepGuard,
    "roll_back": RollBack,
    "throughput": ThroughputLogger,
    "watchdog": Watchdog,
    "weight_census": WeightCensus,
    "summary": FitSummary,
}


class VLADCLI(LightningCLI):
    """LightningCLI with ``--out``, the folder of a run; ``{out}`` in any text of a config stands for it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--out``, ``--may_change``, and the callbacks of every fit: no list in a config replaces them."""
        parser.add_argument("--out", type=str, default="runs/default", help="folder of the run; {out} stands for it")
        for name, callback in _OF_EVERY_FIT.items():
            parser.add_lightning_class_args(callback, name)
        parser.add_argument(
            "--may_change",
            type=list[str] | str,
            default=[],
            help="keys, or patterns, that may differ from what the checkpoint of a resumed fit was trained with",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and find the files: shipped configurations from any folder, and a whole checkpoint.

        The ``last`` checkpoint is that of this stage's folder.
        """
        words = find_shipped(sys.argv[1:] if args is None else args)
        check_words(words)
        for path in named_files(words):
            check_config_file(path)
        self.config = parser.parse_args(words)
        subcommand = self.config.get("subcommand")
        check_settings((self.config[subcommand] if subcommand else self.config).as_dict())
        config = self.config[subcommand] if subcommand else {}
        if config.get("weights_only") is False:
            raise ValueError("--weights_only false: the code in a checkpoint is never run; leave the option out")
        if config.get("ckpt_path"):
            given, folder = (
                fill(text, config["out"]) for text in (config["ckpt_path"], config["checkpoints"]["folder"])
            )
            config["ckpt_path"] = resolve(str(given), folder, config["checkpoints"]["run"], fits=subcommand == "fit")

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read it all for hyper-parameters, on every rank, and the stages save none."""

    def before_instantiate_classes(self) -> None:
        """Put the folder in its places; a fit keeps its configuration, and goes on under the same one only."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        if config["trainer"]["enable_checkpointing"] is False:  # which the trainer refuses beside a callback that can
            config["trainer"]["enable_checkpointing"], config["checkpoints"]["enabled"] = True, False
        if self.subcommand == "fit":
            self.trainer_defaults["callbacks"] = [self._lock(config), *_progress(config["trainer"])]
        filled = fill(config, config["out"])
        if filled["trainer"]["default_root_dir"] is None:  # it would be the working directory
            own = filled["checkpoints"]["folder"] if self.subcommand == "fit" else None
            filled["trainer"]["default_root_dir"] = own or filled["out"]
        if self.subcommand == "fit":
            _check_folder(filled)
        if self.subcommand:
            self.config[self.subcommand] = filled
        else:
            self.config = filled

    def _lock(self, config: Namespace) -> ConfigLock:
        parser = self._parser("fit")
        plain = yaml.safe_load(parser.dump(config, skip_validation=True, skip_none=False, skip_link_targets=False))
        flat = flatten(plain, config["out"])
        path, named = config["ckpt_path"], config["may_change"]
        may_change = [named] if isinstance(named, str) else named
        if path and Path(path).exists():
            check_config(Path(path), flat, may_change)
        return ConfigLock(flat, may_change)

    def instantiate_classes(self) -> None:
        """Lightning's; what a class refuses is told in one line, as what the parser refuses is.

        Raises:
            ValueError: with the last reason, and the key where it is known.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            raise ValueError(reason(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lightning's, compared with the tasks that SLURM started."""
        trainer = super().instantiate_trainer(**kwargs)
        strategy = trainer.strategy
        joins = isinstance(strategy, ParallelStrategy)
        others = isinstance(strategy, ParallelStrategy) and not isinstance(
            strategy.cluster_environment, SLURMEnvironment
        )
        if not others:  # which start or find their processes by themselves
            check_tasks(os.environ, trainer.num_devices, trainer.num_nodes, joins)
        return trainer

    def before_fit(self) -> None:
        """Let the watchdog end a hang before the collectives' time is up."""
        if (watchdog := find(self.trainer, Watchdog)) is not None:
            watchdog.go_first(self.trainer)

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit, before anything starts."""
        path = self.config[self.subcommand].get("ckpt_path") if self.subcommand else None
        if not path or not Path(path).exists():
            return
        if self.subcommand == "fit" and is_folder_checkpoint(Path(path)):
            check_folder(self.model, Path(path))
        else:
            load_checkpoint(self.model, Path(path))
        if self.subcommand == "fit":
            # Lightning would tell the callbacks of its argument after their setup, in which they fill the module
            # with published weights and earlier stages, unless a checkpoint is going to
            self.trainer.ckpt_path, self.config_init["fit"]["ckpt_path"] = path, None


def _progress(trainer: Namespace) -> list[StepProgressBar]:
    """The bar, where the configuration has none of its own and none is unwanted."""
    own = [c for c in trainer["callbacks"] or [] if c["class_path"].endswith("ProgressBar")]
    return [] if own or trainer["enable_progress_bar"] is False else [StepProgressBar()]


def _check_folder(config: Namespace) -> None:
    """What the callback will refuse is refused before loggers write over an earlier fit's files."""
    saves, resumed = config["checkpoints"], config["ckpt_path"]
    idle = not (saves["folder"] and saves["enabled"]) or config["trainer"]["fast_dev_run"]
    words = resumed is not None and not Path(resumed).exists()  # Lightning's, which it looks up later
    if not idle and getattr(rank_zero_only, "rank", 0) == 0:
        refuse_if_held(Path(saves["folder"]))
    if not (idle or words or saves["start_over"]):
        refuse_to_replace(Path(saves["folder"]), resumed)


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
    """Parse, build, and where ``run`` is True do what the subcommand says."""
    prepare()
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
        parser_class=Parser,
        parser_kwargs={"allow_abbrev": False, **(dict.fromkeys(_SUBCOMMANDS, defaults) if run else defaults)},
        args=list(args),
        run=run,
    )


def main(args: Sequence[str]) -> None:
    """``vlad-cli fit|validate|test|predict``: ``args`` starts with the subcommand.

    Raises:
        Preempted: where a signal ended a fit; its exit code tells that from success and from failure.
        KeyboardInterrupt: where Ctrl-C did; Lightning makes exit code 1 of it.
    """
    hush()
    try:
        build(args, run=True)
    except Preempted as stopped:
        stopped.finish()
        raise
    except SystemExit as stopped:
        if isinstance(stopped.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def export(args: Sequence[str]) -> None:
    """``vlad-cli export --checkpoint FILE --folder DIR --config ...``: a stage-2 checkpoint as a pipeline folder.

    Args:
        args: what follows ``export``; the rest after its own options is the stage's configuration.

    Raises:
        FileNotFoundError: where there is no such checkpoint.
        ValueError: where no folder is named, one holds something else, or the checkpoint does not fit.
    """
    options, rest = _export_parser().parse_known_args(args)
    if not options.checkpoint.exists():
        raise FileNotFoundError(f"--checkpoint {options.checkpoint} does not exist")
    targets = {"--folder": (options.folder, _INDEX), "--lora-folder": (options.lora_folder, _LORA)}
    _check_targets(targets)
    built = build(rest, run=False)
    module = built.model
    if not isinstance(module, VFEModule):
        raise ValueError(f"the config builds {type(module).__name__}; export needs stage 2, VFEModule")
    if options.lora_folder and module.painter.vfe.lora is None:
        raise ValueError("--lora-folder: the config trains the whole unet, vfe.lora is null; export --folder")
    saved = load_checkpoint(module, options.checkpoint)
    if options.lora_folder:
        _replace(options.lora_folder, lambda new: save_unet_lora(module.painter.vfe, new))
    if options.folder:
        data = str(getattr(built.datamodule, "root", "unknown"))
        results = Path(built.config["out"], "results.json")
        samplers = module.sampler, module.layout_sampler
        run = read_run(options.folder.name, data, options.checkpoint, saved, results, *samplers)
        _replace(options.folder, lambda new: _save_pipeline(module, run, new))


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "vlad-cli export",
        allow_abbrev=False,
        usage="%(prog)s --config FILE [--config FILE ...] --checkpoint FILE (--folder | --lora-folder) DIR [--out DIR]",
        description="Write a stage-2 checkpoint as a pipeline folder, or its UNet's adapters alone.",
        epilog="All other options are those of the training run, as for vlad-cli fit: --config FILE (may be repeated), "
        "--out DIR (whose results.json the model card shows), --data.root DIR, --model.painter.vfe.lora and the like.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of stage 2, a .ckpt file or folder")
    parser.add_argument("--folder", type=Path, help="new folder of the pipeline")
    parser.add_argument(
        "--lora-folder", type=Path, help="new folder of the UNet's adapters alone, for load_lora_weights"
    )
    return parser


def _save_pipeline(module: VFEModule, run: Run, folder: Path) -> None:
    VLADPipeline.from_module(module).save_pretrained(folder)
    write_card(folder, run)


def _check_targets(targets: Mapping[str, tuple[Path | None, str]]) -> None:
    """Refuse to write over anything but an earlier export, which has a file of the given name."""
    if all(folder is None for folder, _ in targets.values()):
        raise ValueError(f"nothing to write: name {' or '.join(targets)}")
    for option, (folder, sign) in targets.items():
        if folder and folder.exists() and any(folder.iterdir()) and not (folder / sign).is_file():
            raise ValueError(f"{option} {folder} holds something else than an earlier export; name a new one")


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``folder``, then put it in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        write(Path(beside, "new"))
        if folder.exists():
            folder.replace(Path(beside, "old"))
        Path(beside, "new").replace(folder)
    print(f"wrote {folder}")


def load_checkpoint(module: LightningModule, checkpoint: Path) -> dict[str, Any]:
    """Load a checkpoint's weights strictly; returns what else it holds, too.

    Raises:
        ValueError: where it is damaged, of another stage or shape, or its adapters of another scale.
    """
    saved = read_saved(checkpoint)
    try:
        module.load_state_dict(saved["state_dict"], strict=True)
    except RuntimeError as error:
        raise _unfit(module, checkpoint, str(error)) from error
    module.on_load_checkpoint(saved)
    return saved


def check_folder(module: LightningModule, checkpoint: Path) -> None:
    """Refuse a sharded checkpoint that :func:`load_checkpoint` would refuse, by the names and shapes of its weights.

    Every process of a node would hold all of them otherwise, and the strategy of a fit reads its shards later. What is
    no tensor, such as a tokenizer, is put into the module.

    Raises:
        ValueError: where it is damaged, of another stage or shape, or its adapters of another scale.
    """
    verify(checkpoint)
    rest, index = open_folder(checkpoint)
    saved: dict[str | int, torch.Size] = {
        place[1]: index[key].size for place, key in places(rest).items() if place[0] == "state_dict"
    }
    own: dict[str | int, torch.Size] = {
        key: value.shape for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)
    }
    differing = [key for key in {**own, **saved} if own.get(key) != saved.get(key)]
    if differing:
        found, here = (tuple(of[differing[0]]) if differing[0] in of else "absent" for of in (saved, own))
        raise _unfit(module, checkpoint, f"{len(differing)} weights differ; {differing[0]} is {found}, here {here}")
    texts = {key: value for key, value in rest["state_dict"].items() if key not in saved}
    module.load_state_dict(texts, strict=False)
    module.on_load_checkpoint(rest)


def _unfit(module: LightningModule, checkpoint: Path, reason: str) -> ValueError:
    return ValueError(
        f"{checkpoint} does not fit {type(module).__name__} of this config; it is of another stage or shape: "
        f"{shorten(reason, 500)}"
    )
