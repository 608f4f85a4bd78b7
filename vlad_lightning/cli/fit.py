"""The command line of the stages: a thin LightningCLI; the settings for jsonargparse are in config_parser."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import SUPPRESS, Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_only

from vlad_lightning.callbacks import PartsTable, ProgressLines, PromptSamples, StepProgressBar
from vlad_lightning.checkpoints import Checkpoints, ConfigLock
from vlad_lightning.checkpoints.config_lock import flatten
from vlad_lightning.checkpoints.fit_lock import refuse_if_held
from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.checkpoints.resume import Found, check_config, check_weights, resolve
from vlad_lightning.checkpoints.retention import refuse_to_replace
from vlad_lightning.cli.config_files import find_shipped, named_files, reset_lists
from vlad_lightning.cli.config_parser import Parser, check_config_file, prepare, reason
from vlad_lightning.cli.console import silence
from vlad_lightning.cli.gpu_kernels import choose_kernels
from vlad_lightning.cli.slurm_tasks import check_tasks
from vlad_lightning.cli.terminal import has_terminal
from vlad_lightning.files import configs_folder
from vlad_lightning.health import (
    FitSummary,
    Preempted,
    Preemption,
    RollBack,
    StepGuard,
    ThroughputLogger,
    Watchdog,
    WeightCensus,
)
from vlad_lightning.health.callback_lookup import get_callback
from vlad_lightning.limits import check_settings, check_words
from vlad_lightning.models.cpu_attention import plain_attention_on_cpu

_SUBCOMMANDS = ("fit", "validate", "test", "predict")
_OF_A_COMMAND = ("ckpt_path", "weights_only")
_OF_EVERY_FIT = {
    "checkpoints": Checkpoints,
    "preemption": Preemption,
    "step_guard": StepGuard,
    "roll_back": RollBack,
    "throughput": ThroughputLogger,
    "watchdog": Watchdog,
    "weight_census": WeightCensus,
    "summary": FitSummary,
    "samples": PromptSamples,
}
_OCR = {"class_path": "vlad_lightning.metrics.ocr_engine.RapidOCREngine"}  # of the optional package rapidocr


class VLADCLI(LightningCLI):
    """LightningCLI with ``--out``, the folder of a run, and ``--stage``; it replaces ``{out}`` and ``{stage}``."""

    _found: Found | None = None  # what the command starts from

    def setup_parser(self, add_subcommands: bool, *args: Any, **kwargs: Any) -> None:
        """Set up the parser, of all subcommands or, to build the classes only, of none."""
        self._builds_only = not add_subcommands
        super().setup_parser(add_subcommands, *args, **kwargs)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add the subcommands that have settings: Lightning's parser of each takes a tenth of a second to build."""
        named = {name: skipped for name, skipped in self.subcommands().items() if name in kwargs}
        self.subcommands = lambda: named  # type: ignore[method-assign]
        super()._add_subcommands(parser, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's options, and the callbacks of every fit, which no configured list of callbacks replaces."""
        parser.add_argument("--out", type=str, default="runs/default", help="folder of the run; {out} stands for it")
        parser.add_argument(
            "--stage", type=str, default="fit", help="name of the stage's folder in --out; {stage} stands for it"
        )
        for name in _OF_A_COMMAND if self._builds_only else ():  # the config.yaml of a fit has them
            parser.add_argument(f"--{name}", type=Any, default=None, help=SUPPRESS)
        for name, callback in _OF_EVERY_FIT.items():
            parser.add_lightning_class_args(callback, name)
        if find_spec("rapidocr"):
            parser.set_defaults({"samples.ocr": _OCR})
        parser.add_argument(
            "--resume.allow_changes",
            type=list[str] | str,
            default=[],
            help="keys, or patterns, that may differ from what the checkpoint of a resumed fit was trained with",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, and find shipped configurations from any folder and an intact checkpoint.

        ``last`` is the newest checkpoint in this stage's folder.
        """
        words = find_shipped(sys.argv[1:] if args is None else args)
        check_words(words)
        for word in words if self._builds_only else ():
            if (option := word.partition("=")[0].removeprefix("--")) in _OF_A_COMMAND:
                raise ValueError(f"--{option} has no effect here, where nothing is trained or tested; leave it out")
        for path in named_files(words):
            check_config_file(path)
        self.config = parser.parse_args(reset_lists(words))
        subcommand = self.config.get("subcommand")
        check_settings((self.config[subcommand] if subcommand else self.config).as_dict())
        config = self.config[subcommand] if subcommand else {}
        if config.get("weights_only") is False:
            raise ValueError("--weights_only false: the code in a checkpoint is never run; leave the option out")
        if config.get("ckpt_path"):
            given, folder = (
                interpolate(text, names_of(config)) for text in (config["ckpt_path"], config["checkpoints"]["folder"])
            )
            found = resolve(str(given), folder, config["checkpoints"]["run"], fits=subcommand == "fit")
            self._found = found if isinstance(found, Found) else None
            config["ckpt_path"] = str(found.path) if isinstance(found, Found) else found

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would read the checkpoint on every rank for hyper-parameters, which no stage saves."""

    def before_instantiate_classes(self) -> None:
        """Fill in the run's folder; lock a fit's configuration, since a fit resumes only under the same one."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        if config["trainer"]["enable_checkpointing"] is False:  # the trainer refuses this with a checkpoint callback
            config["trainer"]["enable_checkpointing"], config["checkpoints"]["enabled"] = True, False
        if config["trainer"]["logger"] in (False, []):  # base.yaml's LearningRateMonitor requires a logger
            listed = [c for c in _listed(config["trainer"]) if not c["class_path"].endswith(".LearningRateMonitor")]
            config["trainer"]["callbacks"] = listed
        if not config["samples"]["prompts"]:
            config["samples"]["ocr"] = None  # it takes seconds to load
        if self.subcommand:
            self.trainer_defaults["callbacks"] = _shown(config["trainer"])
        if self.subcommand == "fit":
            self.trainer_defaults["callbacks"] += [self._lock(config), ExactResume()]
        filled = interpolate(config, names_of(config))
        if filled["trainer"]["default_root_dir"] is None:  # Lightning would use the working directory
            own = filled["checkpoints"]["folder"] if self.subcommand == "fit" else None
            filled["trainer"]["default_root_dir"] = own or filled["out"]
        if self.subcommand == "fit":
            _check_folder(filled)
        choose_kernels(filled["trainer"])
        if self.subcommand:
            self.config[self.subcommand] = filled
        else:
            self.config = filled

    def _lock(self, config: Namespace) -> ConfigLock:
        parser = self._parser("fit")
        plain = yaml.safe_load(parser.dump(config, skip_validation=True, skip_none=False, skip_link_targets=False))
        flat = flatten(plain, config["out"])
        named = config["resume"]["allow_changes"]
        allow_changes = [named] if isinstance(named, str) else named
        if self._found is not None and self._found.verified:
            check_config(self._found, flat, allow_changes)
        return ConfigLock(flat, allow_changes)

    def instantiate_classes(self) -> None:
        """Build the classes as Lightning does, and report an error of a class in one line, like the parser's errors.

        Raises:
            ValueError: with the innermost reason, and the key if it is known.
        """
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            raise ValueError(reason(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer as Lightning does, and compare its processes with the tasks that SLURM started."""
        trainer = super().instantiate_trainer(**kwargs)
        strategy = trainer.strategy
        joins = isinstance(strategy, ParallelStrategy)
        others = isinstance(strategy, ParallelStrategy) and not isinstance(
            strategy.cluster_environment, SLURMEnvironment
        )
        if not others:  # other environments start or find their processes by themselves
            check_tasks(os.environ, trainer.num_devices, trainer.num_nodes, joins)
        return trainer

    def before_fit(self) -> None:
        """Let the watchdog end a hang before the collectives time out."""
        if (watchdog := get_callback(self.trainer, Watchdog)) is not None:
            watchdog.go_first(self.trainer)

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit, before anything starts."""
        if self._found is None:
            return
        path = str(self._found.path)
        with nullcontext() if self._found.verified else suppress(ValueError):  # only the first process refuses it
            check_weights(self.model, self._found)
        if self.subcommand == "fit":
            # Set before the callbacks' setup, in which they load published weights or an earlier stage unless a
            # checkpoint will be loaded; Lightning sets ckpt_path from its argument only after it
            self.trainer.ckpt_path, self.config_init["fit"]["ckpt_path"] = path, None


def _shown(trainer: Namespace) -> list[Callback]:
    """Return our progress bar, or lines without a terminal, and table of parts, unless the configuration has others."""
    listed = [c["class_path"].rpartition(".")[2] for c in _listed(trainer)]
    found: list[Callback] = []
    if trainer["enable_progress_bar"] is not False and not any(
        n.endswith(("ProgressBar", "ProgressLines")) for n in listed
    ):
        found.append(StepProgressBar() if has_terminal() else ProgressLines())
    if trainer["enable_model_summary"] is not False and not any(n.endswith(("Summary", "PartsTable")) for n in listed):
        found.append(PartsTable())
    return found


def _listed(trainer: Namespace) -> list[Namespace]:
    """Return the callbacks of a configuration as a list; the value may also be a single callback or None."""
    callbacks = trainer["callbacks"] or []
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _check_folder(config: Namespace) -> None:
    """Refuse a folder that the Checkpoints callback would refuse, before loggers overwrite an earlier fit's files."""
    saves, resumed = config["checkpoints"], config["ckpt_path"]
    idle = not (saves["folder"] and saves["enabled"]) or config["trainer"]["fast_dev_run"]
    words = resumed is not None and not Path(resumed).exists()  # one of Lightning's keywords, which it resolves later
    if not idle and getattr(rank_zero_only, "rank", 0) == 0:
        refuse_if_held(Path(saves["folder"]))
    if not (idle or words or saves["overwrite"]):
        refuse_to_replace(Path(saves["folder"]), resumed)


def names_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the placeholders of a configuration and their values."""
    return {name: config[name] for name in ("out", "stage")}


def interpolate(value: Any, names: Mapping[str, str]) -> Any:
    """Return ``value`` with each ``{name}`` replaced in all strings that it holds."""
    if isinstance(value, str):
        return re.sub("|".join(rf"{{{name}}}" for name in names), lambda match: names[match[0][1:-1]], value)
    if isinstance(value, Namespace):
        return Namespace(**{k: interpolate(v, names) for k, v in vars(value).items()})
    if isinstance(value, dict):
        return {k: interpolate(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(interpolate(v, names) for v in value)
    return value


class _WithoutTrainer(VLADCLI):
    """Builds the module and the data alone: a trainer would want the devices and the tasks of the training."""

    def instantiate_trainer(self, **_: Any) -> Any:
        """Build none."""


def build(args: Sequence[str], run: bool, trainer: bool = True) -> VLADCLI:
    """Parse the arguments and build the classes.

    Args:
        args: the words of the command line; with ``run`` the first one is the subcommand.
        run: whether to run the subcommand.
        trainer: False leaves the trainer out, for commands that use the module only.
    """
    prepare()
    silence()
    defaults = {"default_config_files": [str(configs_folder() / "base.yaml")]}
    named = args[:1] if args and args[0] in _SUBCOMMANDS else _SUBCOMMANDS
    if not torch.cuda.is_available():
        # for those who use the module themselves: the flash kernel is slow on a CPU, and counts operations otherwise
        torch.backends.cuda.enable_flash_sdp(False)
    return (VLADCLI if trainer else _WithoutTrainer)(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        parser_class=Parser,
        parser_kwargs={"allow_abbrev": False, **(dict.fromkeys(named, defaults) if run else defaults)},
        args=list(args),
        run=run,
    )


def going_on(args: Sequence[str]) -> str:
    """Return the command line of a fit that goes on from its newest checkpoint, to be pasted into a shell."""
    kept = [
        arg
        for before, arg in zip(["", *args], args, strict=False)
        if "--ckpt_path" not in (before, arg) and not arg.startswith("--ckpt_path=")
    ]
    return shlex.join(["vlad-cli", *kept, "--ckpt_path", "last"])


def main(args: Sequence[str]) -> None:
    """Run ``vlad-cli fit|validate|test|predict``; ``args`` starts with the subcommand.

    Raises:
        Preempted: if a signal ended a fit; its exit code distinguishes this from success and failure.
        KeyboardInterrupt: if Ctrl-C ended it at once; Lightning would turn it into exit code 1.
    """
    try:
        with nullcontext() if torch.cuda.is_available() else plain_attention_on_cpu():
            build(args, run=True)
    except Preempted as stopped:
        stopped.finish(going_on(args))
        raise
    except SystemExit as stopped:
        if isinstance(stopped.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
