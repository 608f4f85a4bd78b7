"""Time a training step beside that of another version: ``python benchmarks/against.py OTHER --configs A.yaml B.yaml``.

OTHER is a folder with the other version's ``vlad_lightning``, as ``git archive COMMIT | tar -x -C OTHER`` makes it;
A.yaml is its configuration, and B.yaml this version's, since their keys may differ. Each round runs ``fit`` of both in
turn, for few and for many steps: the difference of their seconds is that of the steps, without the start. Printed are
the milliseconds of a step, and how many times as fast this version is in each round, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from markdown_table import table

HERE = Path(__file__).resolve().parents[1]


def seconds(code: Path, config: Path, data: str, steps: int) -> float:
    """Run ``fit`` with the code of a folder, and return its seconds."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "vlad_lightning", "fit", "--config", str(config), "--out", out]
        command += [f"--data.root={data}", f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
        command += ["--trainer.limit_val_batches=1", f"--checkpoints.every_n_steps={steps - 1}"]
        command += ["--trainer.enable_progress_bar=false"]
        began = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(code)}
        subprocess.run(command, check=True, cwd=code, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def step_seconds(code: Path, config: Path, data: str, few: int, many: int) -> float:
    """Return the seconds of one step, from two runs."""
    return (seconds(code, config, data, many) - seconds(code, config, data, few)) / (many - few)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other version")
    parser.add_argument("--configs", type=Path, nargs=2, required=True, help="the other version's, and this one's")
    parser.add_argument("--data", required=True, help="folder in MARIO's format")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, nargs=2, default=(20, 120), metavar=("FEW", "MANY"))
    options = parser.parse_args()
    codes = [options.other.resolve(), HERE]
    configs = [config.resolve() for config in options.configs]
    versions = list(zip(codes, configs, strict=True))
    measured = np.array(
        [[step_seconds(*version, options.data, *options.steps) for version in versions] for _ in range(options.rounds)]
    )
    low, middle, high = np.percentile(measured[:, 0] / measured[:, 1], (25, 50, 75))
    other, own = 1000 * np.median(measured, axis=0)
    table(
        ("a step of the other version, ms", "of this one, ms", "times as fast (quartiles)"),
        [(f"{other:.0f}", f"{own:.0f}", f"{middle:.2f} ({low:.2f} to {high:.2f})")],
    )


if __name__ == "__main__":
    main()
