"""Run a scan, a short fit of each stage and a test on hostile and good samples.

``python tests/data/hostile_run.py --out runs/hostile`` compares every command with the same one on the good samples
alone: it must end without a traceback, with finite losses, and with at most one gigabyte more memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostile import GIGABYTE, KINDS, Kind, add_clutter, seen, write_hostile

from vlad_lightning.data.synthetic.synthetic import write_posters

GOOD, BATCH, FEW = 300, 16, 4  # the memory of the fits on good samples is measured in a few steps
_ALONE, _COMMAND = 60.0, 1800.0  # seconds, on a machine with other work
_LEFT_OUT = re.compile(r"00001[/_](\d{9}): [^\n]*; the sample is left out")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; None if it was stopped.
        seconds: its duration.
        peak: peak memory in bytes of it and its children; shared pages count for each.
        output: output of both streams.
    """

    code: int | None
    seconds: float
    peak: int
    output: str

    @property
    def sound(self) -> bool:
        return self.code == 0 and "Traceback" not in self.output


def execute(args: Sequence[str], log: Path) -> Ended:
    """Run ``vlad-cli`` in a new process group, and read its memory ten times per second."""
    began, peak = time.monotonic(), 0
    with log.open("wb") as file:
        command = [sys.executable, "-m", "vlad_lightning", *args]
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        while child.poll() is None and time.monotonic() - began < _COMMAND:
            peak = max(peak, sum(_resident(child.pid)))
            time.sleep(0.1)
        stopped = child.poll() is None
        if stopped:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    seconds = time.monotonic() - began
    return Ended(None if stopped else child.returncode, seconds, peak, log.read_text(errors="replace"))


def _resident(group: int) -> Iterator[int]:
    """Sum the resident bytes of each process of a group."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group:
            yield int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def alone(root: Path, folder: Path) -> tuple[str, int]:
    """Read a sample in a new process; return its outcome and the bytes of memory this took."""
    reading, writing = os.pipe()
    if not (number := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writing, f"{_resident_now()}\n".encode())
        try:
            told = seen(root, folder)
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writing)
    alarm = threading.Timer(_ALONE, os.kill, (number, signal.SIGKILL))
    alarm.start()
    with os.fdopen(reading, "rb") as file:
        before, _, told = file.read().decode().partition("\n")
    usage = os.wait4(number, 0)[2]
    alarm.cancel()
    return told or f"nothing in {_ALONE:g} s", max(0, usage.ru_maxrss * 1024 - int(before))


def _resident_now() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def commands(root: Path, out: Path, steps: int) -> dict[str, list[str]]:
    """List the commands: a short fit of each stage at the mini scale, and a test."""
    shared = [f"--out={out}", f"--data.root={root}", f"--data.batch_size={BATCH}", "--data.num_workers=1"]
    shared += ["--data.val_share=0.1", "--data.test_share=0.1", "--trainer.accelerator=cpu"]
    shared += ["--trainer.precision=32-true", "--trainer.enable_progress_bar=false"]
    fit = [*shared, f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
    configs = {"stage0": "stage0_align", "objects": "object_detector", "stage1": "stage1_tlg", "stage2": "stage2_vfe"}
    named = {name: ["fit", f"--config=mini/{config}.yaml", *fit] for name, config in configs.items()}
    test = ["test", "--config=mini/stage2_vfe.yaml", "--config=mini/test.yaml", *shared, "--model.sampler.steps=2"]
    test += [
        f"--ckpt_path={out}/stage2/last.ckpt",
        f"--model.evaluation.evaluation_encoder.checkpoint={out}/stage0/last.ckpt",
    ]
    return named | {"test": [*test, "--model.text_probe=0", "--data.test_prompts=null"]}


def samples(root: Path, made: dict[Path, Kind]) -> bool:
    """Read each hostile sample alone and print a table; return whether all is as expected."""
    print("| kind | expected | seen | MiB more |\n|---|---|---|---|")
    right = True
    for folder, kind in made.items():
        told, grown = alone(root, folder)
        right &= told == kind.expected and grown < GIGABYTE
        mark = "" if told == kind.expected else "**"
        print(f"| {kind.name} | {kind.expected} | {mark}{told}{mark} | {grown >> 20} |", flush=True)
    return right


def through(good: Path, hostile: Path, made: dict[Path, Kind], out: Path, steps: int) -> bool:
    """Run every command on the good samples and on all, and print a table; return whether all is as expected."""
    print(
        "\n| command | exit codes | seconds: good, all | peak MiB: good, all | left out | wrongly |\n"
        + "|---" * 6
        + "|"
    )
    wanted = {folder.name for folder, kind in made.items() if kind.skipped}
    sceneless = {folder.name for folder, kind in made.items() if not kind.for_detector}
    right, named = True, set[str]()
    beside = commands(good, out / "good", FEW)
    for name, args in commands(hostile, out / "all", steps).items():
        first = execute(beside[name], out / f"{name}-good.log")
        second = execute(args, out / f"{name}-all.log")
        left_out = set(_LEFT_OUT.findall(second.output))
        wrongly = left_out - (sceneless if name == "objects" else wanted)
        named |= left_out & wanted
        right &= first.sound and second.sound and second.peak - first.peak < GIGABYTE and not wrongly
        right &= name == "test" or _is_finite(out / "all" / name / "summary.json", steps)
        row = f"| {name} | {first.code}, {second.code} | {first.seconds:.0f}, {second.seconds:.0f} "
        row += f"| {first.peak >> 20}, {second.peak >> 20} | {len(left_out)} | {len(wrongly)} |"
        print(row, flush=True)
    usable = re.findall(r"(\d+) samples are usable, (\d+) are skipped", (out / "stage0-all.log").read_text())
    found = int(usable[0][1]) + len(named) if usable else 0
    print(
        f"\n{len(wanted)} samples were to be skipped: {usable[0][1] if usable else 0} by the scan, {len(named)} later."
    )
    return right and (found == len(wanted) or steps * BATCH < GOOD + len(made))  # if not all have been read


def _is_finite(summary: Path, steps: int) -> bool:
    results = json.loads(summary.read_text())
    return results["steps"] == steps and not results["skipped_steps"] and results["last_loss"] is not None


def main() -> int:
    """Run and print; return 1 if anything is not as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/hostile"), help="a folder; it is made again")
    parser.add_argument("--kinds", default="", help="those with this in their name")
    parser.add_argument("--part", choices=("all", "alone", "commands"), default="all", help="only this")
    parser.add_argument("--steps", type=int, default=24, help="of each fit; by default every sample is read")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    good, hostile = options.out / "posters", options.out / "posters with hostile ones"
    write_posters(good, samples=GOOD, size=64, seed=0, workers=1)
    shutil.copytree(good, hostile)
    (hostile / "00001").mkdir()
    add_clutter(hostile)
    kinds = tuple(kind for kind in KINDS if options.kinds in kind.name)
    made = write_hostile(hostile, good / "00000/000000000", kinds)
    print(f"{GOOD} good samples, {len(made)} hostile ones\n")
    right = options.part == "commands" or samples(hostile, made)
    return int(not (right and (options.part == "alone" or through(good, hostile, made, options.out, options.steps))))


if __name__ == "__main__":
    sys.exit(main())
