"""Time ``vlad-cli fit`` beside the loop people would write, with VLAD's parts switched on one by one.

``python benchmarks/whole_fit.py --data FOLDER``: each row is a process of its own, from reading the files to the saved
weights. The first is ``bare_loop.py``, which trains the UNet of ``configs/baselines/sd.yaml`` as diffusers' example
does, once with torch's attention and once with the one that ``vlad-cli`` takes on a CPU. Then comes ``vlad-cli fit`` of
the same system (with loggers, checkpoints and guards, as always), and of stage 2 at the mini scale, with ever more of
its parts. A step is the difference of a process with many steps and one with few, so the start does not count. Rounds
run all rows in turn; printed are the medians, and the ratio to the bare loop of the same attention in each round with
its quartiles, and the largest memory of the process. A FOLDER of a few hundred posters lets the last row, which keeps
samples in memory, find all of them there. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markdown_table import table

BATCH = 16
_HERE = Path(__file__).parent
_CALLBACKS = "vlad_lightning.callbacks.InitFrom"
_NO_CCM = {"class_path": "vlad_lightning.models.text.ccm.IdentityComposition"}
_MAP_OFF: dict[str, Any] = {
    "image_generator": {
        "init_args": {"vfe": {"init_args": {"fusion": {"init_args": {"layout_channels": 12}}, "phrase_map": None}}}
    },
    "training": {"map_weight": 0.0, "box_dropout": 0.0},
    "optimization": {"map_lr": None},
}


def rows(start: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the shipped file and the overlay of each fit; later ones have more parts.

    Args:
        start: folder with a stage 0 and a stage 1 to begin with.
    """
    text, layouts = "text_encoder", ("layout_generator", start / "stage1", "generator")
    encoder = "image_generator.prompt_encoder"
    of_sd = [("baseline.prompt_encoder.text_encoder", start / "stage0", "prompt_encoder.text_encoder")]
    of_words = [(f"{encoder}.{text}", start / "stage0", f"prompt_encoder.{text}"), layouts]
    of_phrases = [(encoder, start / "stage0", "prompt_encoder"), layouts]
    of_all = [*of_phrases, ("image_encoder", start / "stage0", "image_encoder")]
    frozen = {"baseline": {"init_args": {"freeze_text_tower": True}}}
    no_phrases = {"image_generator": {"init_args": {"prompt_encoder": {"init_args": {"composition": _NO_CCM}}}}}
    no_phrases["image_generator"]["init_args"]["prompt_encoder"]["init_args"]["read_phrases"] = False  # type: ignore[assignment]
    no_align = {"image_encoder": None}
    sd, vlad = "baselines/sd.yaml", "mini/stage2_vfe.yaml"
    return {
        "`vlad-cli fit` of the same system": (sd, overlay(frozen, of_sd, ema=False)),
        "and EMA": (sd, overlay(frozen, of_sd)),
        "and the text tower trained": (sd, overlay({}, of_sd)),
        "VLAD: and fusion with the glyph map": (vlad, overlay(joined(no_align, _MAP_OFF, no_phrases), of_words)),
        "and the CCM, its phrases read": (vlad, overlay(joined(no_align, _MAP_OFF), of_phrases)),
        "and the phrase map": (vlad, overlay(no_align, of_phrases)),
        "and the loss of Eq. 10: all of stage 2": (vlad, overlay({}, of_all)),
        "and samples kept in memory, as shipped": (vlad, overlay({}, of_all, kept=500)),
    }


def joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings joined key by key."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = joined(result[key], value) if both else value
    return result


def overlay(
    model: Mapping[str, Any], starts: Sequence[tuple[str, Path, str]], ema: bool = True, kept: int = 0
) -> dict[str, Any]:
    """Return a configuration with these settings of the model, parts that start from a checkpoint, and callbacks."""
    callbacks: list[dict[str, Any]] = [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]
    for part, folder, source in starts:
        settings = {"part": part, "checkpoint": str(folder / "last.ckpt"), "source": source}
        callbacks.append({"class_path": _CALLBACKS, "init_args": settings})
    if ema:
        callbacks.append({"class_path": "vlad_lightning.health.EMA", "init_args": {"decay": 0.998, "warmup": True}})
    return {
        "model": {"init_args": dict(model)},
        "data": {"init_args": {"batch_size": BATCH, "keep_in_memory": kept}},
        "trainer": {"callbacks": callbacks, "limit_val_batches": 1, "enable_progress_bar": False},
    }


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a process of Python, and return its seconds and its largest memory in GiB."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{said}")
    return time.perf_counter() - began, used.ru_maxrss / 2**20


def fit(config: str, out: Path, data: Path, steps: int, *options: str) -> list[str]:
    """Return the arguments of Python for a fit."""
    arguments = ["-m", "vlad_lightning", "fit", "--config", f"configs/{config}", *options, f"--out={out}"]
    arguments += [f"--data.root={data}", f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
    return [*arguments, f"--checkpoints.every_n_steps={steps}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder in MARIO's format")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, nargs=2, default=(30, 80), metavar=("FEW", "MANY"))
    options = parser.parse_args()
    few, many = options.steps
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        for config in ("mini/stage0_align.yaml", "mini/stage1_tlg.yaml"):
            run(fit(config, start, options.data, 1))
        commands = {}
        for plain in (False, True):
            bare = [str(_HERE / "bare_loop.py"), f"--data={options.data}", f"--batch={BATCH}"]
            kind = "vlad-cli's" if plain else "torch's"
            commands[f"bare loop, {kind} attention"] = [*bare, *(["--plain_attention"] if plain else [])]
        for number, (name, (config, settings)) in enumerate(rows(start).items()):
            file = Path(folder) / f"{number}.yaml"
            file.write_text(yaml.safe_dump(settings))
            commands[name] = [config, str(file)]
        measured = np.zeros((options.rounds, len(commands), 2))
        for number in range(options.rounds):
            for row, command in enumerate(commands.values()):
                taken = [timed(command, Path(folder), options.data, steps) for steps in (few, many)]
                measured[number, row] = (taken[1][0] - taken[0][0]) / (many - few), taken[1][1]
    report(list(commands), measured)


def timed(command: list[str], folder: Path, data: Path, steps: int) -> tuple[float, float]:
    """Return the seconds and the memory of a row's process that takes so many steps."""
    if command[0].endswith(".py"):
        return run([*command, f"--steps={steps}"])
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return run(fit(command[0], Path(out), data, steps, "--config", command[1]))


def report(names: Sequence[str], measured: np.ndarray) -> None:
    """Print a table of (rounds, rows, 2) seconds of a step and memory; the second row is the bare loop to compare."""
    seconds, memory = measured[..., 0], measured[..., 1].max(axis=0)
    low, middle, high = np.percentile(seconds / seconds[:, 1:2], (25, 50, 75), axis=0)
    table(
        ("process", "ms a step", "images a second", "against the bare loop (quartiles)", "GiB"),
        [
            (
                name,
                f"{1000 * np.median(seconds[:, row]):.0f}",
                f"{BATCH / np.median(seconds[:, row]):.1f}",
                f"{middle[row]:.2f} ({low[row]:.2f} to {high[row]:.2f})",
                f"{memory[row]:.2f}",
            )
            for row, name in enumerate(names)
        ],
    )


if __name__ == "__main__":
    main()
