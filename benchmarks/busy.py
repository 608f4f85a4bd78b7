"""Time the demo's training on a machine that others keep busy: ``python benchmarks/busy.py``.

The fits of ``configs/pipeline_mini.yaml`` with a fraction of their steps: alone; beside processes that compute without
end; and beside them with as many threads as there are processors, which is what torch does unless it is told. One
process of N has a share of 1 / N of the machine, so it would need N times as long as alone. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml
from markdown_table import table, table_rows

from vlad_lightning.cli.threads import VARIABLE
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.files import configs_folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--others", type=int, default=3, help="processes beside it; default: %(default)s")
    parser.add_argument("--part", type=int, default=20, help="steps are divided by this; default: %(default)s")
    options = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    every = {**environment, VARIABLE: str(os.cpu_count())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_posters(folder / "posters", 1000, size=64, workers=2)
        alone = measured(folder, "alone", options.part, environment)
        table(
            ("", "seconds", "times as long as alone", "of the time that its share of the machine takes"),
            [("alone, threads chosen", f"{alone:.0f}", "1", "1")],
        )
        for what, chosen in (("threads chosen", environment), ("a thread for each processor", every)):
            with spinning(options.others):
                seconds = measured(folder, what, options.part, chosen)
            times = seconds / alone
            share = times / (1 + options.others)
            row = (f"beside {options.others} processes, {what}", f"{seconds:.0f}", f"{times:.1f}", f"{share:.2f}")
            table_rows([row])


def measured(folder: Path, name: str, part: int, environment: Mapping[str, str]) -> float:
    """Run the shortened fits into a folder of their own, and return their seconds."""
    pipeline = yaml.safe_load((configs_folder() / "pipeline_mini.yaml").read_text())
    pipeline["out"] = str(folder / name)
    pipeline["data"] = {"train": str(folder / "posters"), "test": str(folder / "posters")}
    pipeline["stages"] = [stage for stage in pipeline["stages"] if stage["command"] == "fit"]
    for stage in pipeline["stages"]:
        args = stage["args"]
        steps = args[args.index("--trainer.max_steps") + 1] // part
        stage["args"] = [*args, f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
        stage["args"] += [f"--checkpoints.every_n_steps={steps - 1}", "--trainer.limit_val_batches=1"]
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(pipeline))
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "vlad_lightning", "run", "--config", str(config)]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    return time.perf_counter() - began


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep that many processes computing while the block runs."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(2)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
