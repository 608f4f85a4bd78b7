"""The configuration and the data that a checkpoint was trained with, and what may differ when it is resumed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from textwrap import shorten
from typing import Any, Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from vlad_lightning.checkpoints.ranks import on_first
from vlad_lightning.data.source import SampleSource
from vlad_lightning.files import printable

RECORD = "vlad_config"
"""The key of the configuration in a checkpoint."""

# The parts of the configuration that determine a training; the rest (folders, loggers, monitoring) may change.
_LOCKED = ("seed_everything", "model", "data", "trainer")
# Keys among them that do not change which numbers are computed from which samples, or only how long and where.
_FREE = (
    "data.keep_in_memory",
    "data.num_workers",
    "data.pin_memory",
    "data.latents",
    "data.limit_test",
    "data.max_outage",
    "data.test_root",
    "data.test_source*",
    "model.sampler*",
    "model.layout_sampler*",
    "model.sampling_seed",
    "model.evaluation*",
    "model.*acceleration.*",
    "model.optimization.fused",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy*",
    "trainer.plugins*",
    "trainer.logger*",
    "trainer.profiler*",
    "trainer.max_*",
    "trainer.min_*",
    "trainer.fast_dev_run",
    "trainer.log_every_n_steps",
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
    "trainer.num_sanity_val_steps",
    "trainer.enable_*",
    "trainer.inference_mode",
    "trainer.detect_anomaly",
    "trainer.barebones",
    "trainer.benchmark",
    "trainer.deterministic",
    "trainer.default_root_dir",
    "trainer.model_registry",
    "trainer.callbacks.*Checkpoint*",
    "trainer.callbacks.*ProgressBar*",
    "trainer.callbacks.*Summary*",
    "trainer.callbacks.*Monitor*",
    "trainer.callbacks.Timer*",
    "trainer.callbacks.SampleGrid*",
    "trainer.callbacks.ResultsWriter*",
    "trainer.callbacks.ImageWriter*",
)
# A resume restores these from the checkpoint, whatever the configuration says: a trained weight's first value, and
# where weights and tokenizers were read when the run began.
_WEIGHTS = ("model.temperature",)
_ORIGINS = ("InitFrom", "FromPretrained", "TokenizerFromPretrained")
_ABSENT = "(not set)"
CONTENT = "data.content"
"""The key under which ``allow_changes`` permits other contents of the data folder."""


class _Data(Protocol):
    """A data module that knows which data it has read."""

    source: SampleSource

    def changed_since(self, checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None: ...


class ConfigLock(Callback):
    """A callback that stores a fit's configuration in its checkpoints and compares it when one of them is resumed.

    It also compares the contents of the data folder, once it has been scanned; the data module stores them.

    Args:
        config: dotted keys and plain values, see :func:`flatten`.
        allow_changes: keys and patterns that may differ, see :func:`changes`; :data:`CONTENT` is allowed among them.
    """

    def __init__(self, config: Mapping[str, Any], allow_changes: Sequence[str] = ()) -> None:
        self.config = dict(config)
        self.allow_changes = tuple(allow_changes)
        self._world_size = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the number of processes: it may change, with a warning."""
        return {"world_size": self._world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn if the number of processes, and with it the global batch, has changed."""
        then = state_dict["world_size"]
        if then and self._world_size and then != self._world_size:
            rank_zero_warn(
                f"resumed on {self._world_size} processes after {then}: the global batch is batch_size times processes "
                "times accumulate_grad_batches; keep it by --data.batch_size N --resume.allow_changes data.batch_size"
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Count the processes."""
        self._world_size = trainer.world_size

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to the checkpoint."""
        checkpoint[RECORD] = dict(self.config)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with another configuration or other data.

        Every process compares the configuration, which most have not done yet. The first process compares the data
        and decides for all.

        Raises:
            ValueError: names what differs.
        """
        if trainer.state.fn == "fit" and RECORD in checkpoint:
            refuse_changes(trainer.ckpt_path, checkpoint[RECORD], self.config, self.allow_changes)
            self._keep_origins(checkpoint[RECORD])
        data = getattr(trainer, "datamodule", None)
        if trainer.state.fn == "fit" and hasattr(data, "changed_since"):
            on_first(partial(self._check_data, cast(_Data, data), checkpoint))

    def _keep_origins(self, then: Mapping[str, Any]) -> None:
        """Keep on record where the run's weights came from; a resume does not read them again."""
        prefixes = tuple(f"trainer.callbacks.{name}" for name in _ORIGINS)
        kept = {key: value for key, value in then.items() if key.startswith(prefixes)}
        own = {key: value for key, value in self.config.items() if key.startswith(prefixes)}
        if kept != own:
            names = sorted(key for key in {**kept, **own} if kept.get(key) != own.get(key))
            rank_zero_warn(f"{', '.join(names)}: without effect, the weights are those of the checkpoint")
            self.config = {key: value for key, value in self.config.items() if key not in own} | kept

    def _check_data(self, data: _Data, checkpoint: Mapping[str, Any]) -> None:
        changed = data.changed_since(checkpoint)
        if changed is None:
            rank_zero_warn("the checkpoint does not say what its data folder held; it may have been something else")
        elif changed:
            where = printable(data.source.name)
            message = f"the {', '.join(changed)} in {where} are not those that the checkpoint was trained on"
            if changes({}, {CONTENT: changed}, self.allow_changes):
                raise ValueError(f"{message}; put them back, or allow it: --resume.allow_changes {CONTENT}")
            rank_zero_warn(f"{message}; --resume.allow_changes allows it")


def flatten(config: Mapping[str, Any], out: str) -> dict[str, Any]:
    """Return the values that determine a training, by dotted keys as on the command line (without ``init_args``).

    A list of classes (callbacks, loggers) is keyed by their names. The folder of the run is written as ``{out}``, so
    that a run that was moved counts as the same run.

    Args:
        config: the configuration of the command line, plain values only.
        out: the folder of the run.
    """
    flat: dict[str, Any] = {}
    for key in _LOCKED:
        if key in config:
            _put(flat, key, config[key], out)
    return flat


def _put(flat: dict[str, Any], key: str, value: Any, out: str) -> None:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            _put(
                flat,
                key if name in ("init_args", "dict_kwargs") and "class_path" in value else f"{key}.{name}",
                part,
                out,
            )
    elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) and "class_path" in v for v in value):
        names = [str(part["class_path"]).rpartition(".")[2] for part in value]
        seen: Counter[str] = Counter()
        for name, part in zip(names, value, strict=True):
            number = f"[{seen[name]}]" if names.count(name) > 1 else ""
            seen[name] += 1
            _put(flat, f"{key}.{name}{number}", part, out)
    else:
        flat[key] = _plain(value, out)


def _plain(value: Any, out: str) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part, out) for part in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(part, out) for name, part in value.items()}
    if isinstance(value, str):
        return "{out}" + value[len(out) :] if value == out or value.startswith(f"{out}/") else value
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def changes(
    then: Mapping[str, Any], now: Mapping[str, Any], allow_changes: Sequence[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Return the keys, with both values, that differ although they must not.

    Args:
        then: the configuration stored in a checkpoint.
        now: the configuration of the fit that resumes it.
        allow_changes: more keys that may differ, or patterns such as ``data.*``; a key includes all keys below it.
            The first value of a trained weight may not.
    """
    named = [pattern.replace(".init_args", "").lstrip("-").replace("[", "[[]") for pattern in allow_changes]
    allowed = [*_FREE, *named, *(f"{pattern}.*" for pattern in named), *(f"{pattern}[[]*" for pattern in named)]
    differing = [key for key in {**then, **now} if then.get(key, _ABSENT) != now.get(key, _ABSENT)]
    refused = [key for key in differing if key in _WEIGHTS or not any(fnmatchcase(key, pattern) for pattern in allowed)]
    return [(key, then.get(key, _ABSENT), now.get(key, _ABSENT)) for key in sorted(refused)]


def refuse_changes(
    checkpoint: object, then: Mapping[str, Any], now: Mapping[str, Any], allow_changes: Sequence[str]
) -> None:
    """Refuse the differences that :func:`changes` finds, and print them as a table on stderr.

    Args:
        checkpoint: its path, for the message.
        then: the configuration stored in it.
        now: the configuration of the fit that resumes it.
        allow_changes: keys and patterns that may differ.

    Raises:
        ValueError: names the keys that differ.
    """
    rows = changes(then, now, allow_changes)
    if not rows:
        return
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(table(rows), file=sys.stderr)
    names = [key for key, *_ in rows]
    if weights := [key for key in names if key in _WEIGHTS]:
        raise ValueError(
            f"{checkpoint} was trained under another {weights[0]}, the first value of a weight that the checkpoint "
            f"restores: undo the change ({_short(then.get(weights[0]))}), or start a new run"
        )
    raise ValueError(
        f"{checkpoint} was trained under another configuration ({len(rows)} keys differ, above); undo the change, "
        f"or allow it: --resume.allow_changes '[{', '.join(names)}]'"
    )


def table(rows: Sequence[tuple[str, Any, Any]]) -> str:
    """Format the rows as a text table with the columns key, then and now."""
    texts = [("key", "then", "now"), *((key, _short(then), _short(now)) for key, then, now in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(3)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in texts)


def _short(value: Any) -> str:
    return shorten(str(value), 60, placeholder=" ...")
