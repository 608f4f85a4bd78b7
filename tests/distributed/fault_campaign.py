"""Inject faults into a fit again and again; each time the same command must resume it.

``make faults`` runs it: every fault hits a real fit of a tiny stage 1 at a random moment; then the same command is
repeated until the fit ends. A fault is survived if the fit ends without other help. The resume is right if every step
of every process uses the samples of the undisturbed fit, and the last weights are equal bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
import yaml
from faulty_process import Inside, start
from rich.progress import track

from vlad_lightning.checkpoints.checksum import verify
from vlad_lightning.checkpoints.fit_lock import NAME as LOCK
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.files import configs_folder
from vlad_lightning.pipeline.model_card import read_run

STEPS, EVERY = 40, 4
POISONED = 17
_LIMIT = 900.0  # seconds for one start, on a machine with other work

_NOTHING = Inside()


@dataclass
class Life:
    """One start of the command.

    Attributes:
        codes: exit codes by rank, negative for a signal.
        resumed_at: the step it began with; None if it died before.
        reached: the last step it made, at least ``resumed_at``.
    """

    codes: list[int]
    resumed_at: int | None
    reached: int


@dataclass
class Outcome:
    """The outcome of one fault.

    Attributes:
        kind: the kind of fault.
        ended: whether the fit ended by repeating its command.
        right: whether samples and last weights equal those of the undisturbed fit.
        lost: number of repeated steps, and of skipped steps.
        lives: number of starts of the command.
        note: the failure, if any.
    """

    kind: str
    ended: bool
    right: bool
    lost: int
    lives: int
    note: str = ""


class Fit:
    """A folder with a tiny stage 1, on one process or two."""

    calls = 0  # file system calls for checkpoints in the undisturbed fit

    def __init__(self, folder: Path, stage0: Path, posters: Path, processes: int) -> None:
        self.folder = folder
        self.posters = posters
        self.processes = processes
        (folder / "stage0").mkdir(parents=True)
        shutil.copy(stage0, folder / "stage0/last.ckpt")
        self.args = fit_args("mini/stage1_tlg.yaml", "generator.prompt_encoder", folder, posters, 8 // processes)
        self.args += ["--checkpoints.every_n_steps", str(EVERY), "--watchdog.timeout", "20", "--watchdog.grace", "1"]
        strategy = "auto" if processes == 1 else "ddp_find_unused_parameters_true"
        self.args += ["--trainer.devices", str(processes), "--trainer.strategy", strategy]
        self.command = self.args
        self.lives: list[Life] = []

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "stage1/last.ckpt"

    @property
    def done(self) -> bool:
        """Whether the latest start reached the end of the fit."""
        return bool(self.lives) and not any(self.lives[-1].codes)

    def live(
        self,
        inside: Inside = _NOTHING,
        strike: Callable[[Fit, list[int]], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Life:
        """Start the command, let ``strike`` hit its processes, and wait for their end."""
        log = self.folder / f"log{len(self.lives)}"
        ranks = [start(self.command, inside, log, self.folder / "out", env) for env in self._ranks(environment or {})]
        if strike is not None:
            strike(self, ranks)
        codes = _ends(ranks)
        entries = _entries(log.with_suffix(".0"))
        began = next((e["start"] for e in entries if "start" in e), None)
        self.lives.append(Life(codes, began, max((e["step"] for e in entries if "step" in e), default=began or 0)))
        return self.lives[-1]

    def _ranks(self, environment: dict[str, str]) -> Iterator[dict[str, str]]:
        if self.processes == 1:
            yield environment
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"TORCHELASTIC_RUN_ID": "faults", "GROUP_RANK": "0", "GLOO_SOCKET_IFNAME": "lo"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(self.processes))
        for rank in map(str, range(self.processes)):  # like torchrun
            yield environment | shared | {"RANK": rank, "LOCAL_RANK": rank}

    def wait_for(self, step: int, ranks: Sequence[int]) -> None:
        """Wait until this start has made ``step`` steps, or has ended."""
        log, until = self.folder / f"log{len(self.lives)}.0", time.monotonic() + _LIMIT
        while time.monotonic() < until and not _ended(ranks[0]):
            if any(e.get("step", -1) >= step for e in _entries(log)):
                return
            time.sleep(0.002)

    def samples(self) -> dict[tuple[int, int], set[tuple[str, ...]]]:
        """Return the samples by rank and step, over all starts."""
        taken: dict[tuple[int, int], set[tuple[str, ...]]] = {}
        for file in self.folder.glob("log*.[01]"):
            for entry in _entries(file):
                if "step" in entry:
                    taken.setdefault((int(file.suffix[1:]), entry["step"]), set()).add(tuple(entry["keys"]))
        return taken

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the last weights and their EMA."""
        saved = torch.load(self.last, weights_only=True)
        pairs = [(f"{key}.{k}", v) for key in ("state_dict", "current_model_state") for k, v in saved[key].items()]
        return {k: v for k, v in pairs if isinstance(v, torch.Tensor)}


def fit_args(config: str, prompt_encoder: str, out: Path, posters: Path, batch_size: int) -> list[str]:
    """Return the arguments of ``fit --ckpt_path last`` of a shipped stage, with networks of one layer."""
    settings: dict[str, object] = {"ckpt_path": "last", "out": out, "data.root": posters, "data.batch_size": batch_size}
    small = {"width": 32, "layers": 1, "heads": 2}
    encoder = f"model.{prompt_encoder}"
    parts = {f"{encoder}.{part}.init_args": small for part in ("text_encoder.tower", "composition")}
    parts |= {f"{encoder}.text_encoder.character_encoder": {"width": 32}}
    if "stage1" in config:
        parts["model.generator.tlg"] = small | {"text_width": 32}
    else:
        parts["model.image_encoder"] = {"tower": "vlad_lightning.models.image_encoder.build_vision_tower"}
        parts["model.image_encoder.tower.init_args"] = small | {"projection": 32}
    trainer = {"max_steps": STEPS, "accelerator": "cpu", "precision": "32-true", "limit_val_batches": 0}
    trainer |= {"default_root_dir": out}  # its configuration is written here
    trainer |= {"enable_progress_bar": "false", "callbacks": json.dumps(_callbacks(config)), "log_every_n_steps": EVERY}
    rows = {"save_dir": str(out), "name": "log", "version": ""}
    trainer["logger"] = json.dumps({"class_path": "vlad_lightning.health.loggers.PatientCSVLogger", "init_args": rows})
    parts["trainer"] = trainer
    settings |= {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
    return ["fit", f"--config={configs_folder() / config}", *(f"--{name}={value}" for name, value in settings.items())]


def _callbacks(config: str) -> list[dict[str, object]]:
    if "stage1" not in config:
        return []
    start = {"part": "generator.prompt_encoder", "checkpoint": "{out}/stage0/last.ckpt", "source": "prompt_encoder"}
    named = {"callbacks.InitFrom": start, "health.EMA": {"decay": 0.9}}
    return [{"class_path": f"vlad_lightning.{name}", "init_args": given} for name, given in named.items()]


def _entries(log: Path) -> list[dict[str, object]]:
    """Read the complete lines of a log; a kill may leave a partial line."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _ended(process: int) -> bool:
    status = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return status is not None


def _ends(ranks: Sequence[int]) -> list[int]:
    """Return the exit codes; if one process fails, the others have ten seconds to notice, as under torchrun."""
    until = time.monotonic() + _LIMIT
    left, codes = set(ranks), dict.fromkeys(ranks, 0)
    while left:
        for process in [p for p in left if _ended(p)]:
            codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            left.discard(process)
            if codes[process]:
                until = min(until, time.monotonic() + 10)
        if time.monotonic() > until:
            for process in left:
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[p] for p in ranks]


def _moment(dice: random.Random) -> int:
    return dice.randrange(1, STEPS - 1)


def kill(rank: int, dice: random.Random) -> Callable[[Fit, list[int]], None]:
    """SIGKILL one process at a random moment."""
    step, wait = _moment(dice), dice.uniform(0, 0.03)

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        time.sleep(wait)
        if not _ended(ranks[rank]):
            os.kill(ranks[rank], signal.SIGKILL)

    return strike


def killed(fit: Fit, dice: random.Random) -> None:
    """kill -9 of the process"""
    fit.live(strike=kill(0, dice))


def first_rank_killed(fit: Fit, dice: random.Random) -> None:
    """kill -9 of the first of two processes"""
    fit.live(strike=kill(0, dice))


def second_rank_killed(fit: Fit, dice: random.Random) -> None:
    """kill -9 of the second of two processes"""
    fit.live(strike=kill(1, dice))


def killed_in_a_save(fit: Fit, dice: random.Random) -> None:
    """kill -9 during a checkpoint's write"""
    fit.live(Inside(kill_at_call=dice.randrange(1, fit.calls + 1)))


def killed_in_a_save_elsewhere(fit: Fit, dice: random.Random) -> None:
    """kill -9 during a checkpoint's write, temporary folder on another file system"""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as elsewhere:
        fit.live(Inside(kill_at_call=dice.randrange(1, fit.calls + 1)), environment={"TMPDIR": elsewhere})


def newest_truncated(fit: Fit, dice: random.Random) -> None:
    """newest checkpoint truncated"""
    _killed_after_two_saves(fit, dice)
    os.truncate(fit.last, dice.randrange(fit.last.stat().st_size))


def newest_flipped(fit: Fit, dice: random.Random) -> None:
    """a bit of the newest checkpoint flipped"""
    _killed_after_two_saves(fit, dice)
    with fit.last.open("r+b") as file:
        place = dice.randrange(fit.last.stat().st_size)
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        file.write(bytes([old ^ 1 << dice.randrange(8)]))


def _killed_after_two_saves(fit: Fit, dice: random.Random) -> None:
    step = dice.randrange(2 * EVERY + 1, STEPS - 1)

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        if not _ended(ranks[0]):
            os.kill(ranks[0], signal.SIGKILL)

    fit.live(strike=strike)


def disk_full(fit: Fit, dice: random.Random) -> None:
    """disk full during a save, then kill -9"""
    step, more = dice.randrange(EVERY, STEPS - 3 * EVERY), dice.randrange(2 * EVERY)

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        filler = fit.folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        fit.wait_for(step + EVERY + more, ranks)
        if not _ended(ranks[0]):
            os.kill(ranks[0], signal.SIGKILL)
        filler.unlink()

    fit.live(strike=strike)


def nan_batch(fit: Fit, dice: random.Random) -> None:
    """a batch of NaN, then kill -9"""
    fit.live(Inside(poisoned_steps=(POISONED,)), strike=kill(0, dice))


def hung_rank(fit: Fit, dice: random.Random) -> None:
    """one of two processes hangs"""
    life = fit.live(Inside(hang_at=_moment(dice)))
    if 0 in life.codes:
        raise RuntimeError(f"a hung process ended as if it were done: exit codes {life.codes}")


def storm(fit: Fit, dice: random.Random) -> None:
    """many SIGTERM and SIGUSR1 in quick succession"""
    step = _moment(dice)

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        for _ in range(40):
            for process in ranks:
                if not _ended(process):
                    os.kill(process, dice.choice((signal.SIGTERM, signal.SIGUSR1)))
            time.sleep(0.001)

    fit.live(strike=strike)


def damaged_notes(content: Callable[[bytes], bytes]) -> Callable[[Fit, random.Random], None]:
    """Replace the notes of the run beside its checkpoints, and those of the scan beside the samples."""

    def strike(fit: Fit, dice: random.Random) -> None:
        _killed_after_two_saves(fit, dice)
        results = fit.folder / "results.json"
        results.write_text(json.dumps({"vlad": {"fid": {"value": 1.0}}}))
        for note in (fit.posters / ".scan.json", fit.folder / "log/metrics.csv", fit.last.with_name(LOCK), results):
            note.write_bytes(content(note.read_bytes()))
        if read_run("vlad", "data", fit.last, {"global_step": 0}, results).results:
            raise RuntimeError(f"results from {results}, which is damaged")

    return strike


def _emptied(_: bytes) -> bytes:
    return b""


def _halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _of_another_form(_: bytes) -> bytes:
    return b'{"other": ["structure"]}'


notes_emptied, notes_cut, notes_changed = map(damaged_notes, (_emptied, _halved, _of_another_form))
notes_emptied.__doc__ = "kill -9, and the run's notes and the scan's are empty"
notes_cut.__doc__ = "kill -9, and the run's notes and the scan's are cut in half"
notes_changed.__doc__ = "kill -9, and the run's notes and the scan's have another structure"


def stamp_damaged(fit: Fit, dice: random.Random) -> None:
    """done.json of a finished pipeline damaged"""
    stage = {"name": "stage1", "command": "fit", "args": fit.args[1:], "outputs": [str(fit.last)]}
    pipeline = {"out": str(fit.folder), "data": {"train": str(fit.posters)}, "stages": [stage]}
    (fit.folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    fit.command = ["run", "--config", str(fit.folder / "pipeline.yaml")]
    fit.live()
    stamp = fit.folder / "stage1/done.json"
    stamp.write_bytes(dice.choice((_emptied, _halved, _of_another_form))(stamp.read_bytes()))
    fit.live()


def second_fit(fit: Fit, dice: random.Random) -> None:
    """a second fit in the same folder, then kill -9 of the first"""
    step, refused = dice.randrange(1, 2 * EVERY), fit.folder / "refused"

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        codes = _ends([start(fit.command, Inside(), fit.folder / "second", refused, {})])
        told = f"process {ranks[0]} on {socket.gethostname()}"
        if codes == [0] or told not in refused.read_text():
            raise RuntimeError(f"a second fit was not refused by {told!r}: {codes}, {refused.read_text()[-1000:]}")
        if _ended(ranks[0]):
            raise RuntimeError(f"the second fit ended the first: {(fit.folder / 'out').read_text()[-1000:]}")
        os.kill(ranks[0], signal.SIGKILL)

    fit.live(Inside(pause=1.0), strike=strike)


def data_away(fit: Fit, dice: random.Random) -> None:
    """the data folder away for some seconds"""
    step, away = _moment(dice), fit.posters.with_name("away")

    def strike(fit: Fit, ranks: list[int]) -> None:
        fit.wait_for(step, ranks)
        fit.posters.rename(away)
        try:
            time.sleep(dice.uniform(1, 4))
        finally:
            away.rename(fit.posters)

    life = fit.live(Inside(pause=0.05), strike=strike)
    if any(life.codes):
        raise RuntimeError(f"the fit did not wait: {life.codes}, {(fit.folder / 'out').read_text()[-1500:]}")


@dataclass(frozen=True)
class Kind:
    """A fault: its action, its number of processes, and its other needs."""

    act: Callable[[Fit, random.Random], None]
    processes: int = 1
    small_disk: bool = False
    poisoned: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the table."""
        return (self.act.__doc__ or "").strip() + (
            " (two processes)" if self.processes > 1 and "two" not in (self.act.__doc__ or "") else ""
        )


KINDS = (
    Kind(killed),
    Kind(killed_in_a_save),
    Kind(notes_emptied),
    Kind(data_away),
    Kind(first_rank_killed, processes=2),
    Kind(newest_truncated),
    Kind(storm),
    Kind(second_fit),
    Kind(second_rank_killed, processes=2),
    Kind(notes_cut),
    Kind(killed_in_a_save_elsewhere),
    Kind(disk_full, small_disk=True),
    Kind(nan_batch, poisoned=(POISONED,)),
    Kind(stamp_damaged),
    Kind(newest_flipped),
    Kind(storm, processes=2),
    Kind(notes_changed),
    Kind(hung_rank, processes=2),
    Kind(data_away, processes=2),
)


class Campaign:
    """Faults of every kind in turn, compared with undisturbed fits.

    Args:
        folder: folder for all files; it is created.
        seed: seed of the random moments.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.posters = folder / "posters"
        self._references: dict[tuple[int, tuple[int, ...]], Fit] = {}
        write_posters(self.posters, samples=40, size=64, seed=0, workers=1, charseg=False)
        args = fit_args("mini/stage0_align.yaml", "prompt_encoder", folder / "first", self.posters, 8)
        args = [a.replace(f"max_steps={STEPS}", "max_steps=2") for a in args]
        ranks = [start(args, Inside(), folder / "log", folder / "out", {})]
        if _ends(ranks) != [0]:
            raise RuntimeError(f"stage 0 failed: {(folder / 'out').read_text()[-2000:]}")

    def _fit(self, name: str, processes: int, folder: Path | None = None) -> Fit:
        return Fit((folder or self.folder) / name, self.folder / "first/stage0/last.ckpt", self.posters, processes)

    def reference(self, processes: int, poisoned: tuple[int, ...]) -> Fit:
        """Run the same fit undisturbed."""
        key = (processes, poisoned)
        if key not in self._references:
            fit = self._fit(f"reference{len(self._references)}", processes)
            fit.live(Inside(poisoned_steps=poisoned))
            if not fit.done:
                raise RuntimeError(f"the undisturbed fit failed: {(fit.folder / 'out').read_text()[-3000:]}")
            fit.calls = int((fit.folder / "log0.calls").read_text())
            self._references[key] = fit
        return self._references[key]

    def strike(self, kind: Kind, number: int) -> Outcome:
        """Inject one fault, and restart until the fit ends."""
        reference = self.reference(kind.processes, kind.poisoned)
        with _disk(self.folder / f"disk{number}", kind.small_disk) as folder:
            fit = self._fit(f"fit{number}", kind.processes, folder)
            fit.calls = reference.calls
            try:
                kind.act(fit, self.dice)
                while not fit.done and len(fit.lives) < 4:
                    fit.live(Inside(poisoned_steps=kind.poisoned))
            except RuntimeError as error:
                return Outcome(kind.name, False, False, 0, len(fit.lives), str(error))
            if not fit.done:
                note = (fit.folder / "out").read_text()[-1500:]
                return Outcome(kind.name, False, False, 0, len(fit.lives), note)
            lost = sum(a.reached - _began(b) for a, b in zip(fit.lives, fit.lives[1:], strict=False))
            wrong = _difference(fit, reference)
            outcome = Outcome(kind.name, True, not wrong, lost + len(kind.poisoned), len(fit.lives), wrong)
        if outcome.right:
            shutil.rmtree(self.folder / f"fit{number}", ignore_errors=True)
        return outcome


@contextmanager
def _disk(mount: Path, small: bool) -> Iterator[Path]:
    """Make a folder; if ``small``, on a separate disk of 64 MiB."""
    if not small:
        yield mount.parent
        return
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def can_mount() -> bool:
    """Return whether a separate disk can be mounted, which needs root."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
        if mounted:
            subprocess.run(["umount", folder], check=True)
        return mounted


def _began(life: Life) -> int:
    """Return the step it began with; the last step if the fit was already done."""
    if life.resumed_at is None:
        return 0 if any(life.codes) else STEPS
    return life.resumed_at


def _difference(fit: Fit, reference: Fit) -> str:
    """Describe the differences from the undisturbed fit; empty if there are none."""
    taken, wanted = fit.samples(), reference.samples()
    for place, keys in wanted.items():
        if taken.get(place) != keys:
            return f"rank {place[0]}, step {place[1]}: samples {taken.get(place)}, not {keys}"
    verify(fit.last)
    with (fit.folder / "log/metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    if steps != sorted(set(steps)) or not steps:
        return f"metrics.csv has the steps {steps}"
    ours, theirs = fit.weights(), reference.weights()
    for name, weight in theirs.items():
        if not torch.equal(ours[name], weight):
            return f"{name} differs by up to {(ours[name] - weight).abs().max():.1e}"
    return ""


def table(outcomes: Sequence[Outcome]) -> str:
    """Make a Markdown table with a row per kind."""
    rows = ["| fault | times | survived | wrong resumes | steps lost: median, most |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(o.kind for o in outcomes):
        of = [o for o in outcomes if o.kind == kind]
        lost = [o.lost for o in of if o.ended]
        results = f"{statistics.median(lost):g}, {max(lost)}" if lost else "-"
        wrong = sum(o.ended and not o.right for o in of)
        rows.append(f"| {kind} | {len(of)} | {sum(o.ended for o in of)} | {wrong} | {results} |")
    ended, wrong = sum(o.ended for o in outcomes), sum(o.ended and not o.right for o in outcomes)
    return "\n".join([*rows, f"| all | {len(outcomes)} | {ended} | {wrong} | |"])


def main() -> int:
    """Run and print; return 1 if a fit was lost or resumed wrongly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faults", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="a folder; a new one is made in it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults with this in their name")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(Path(tempfile.mkdtemp(prefix=f"{date.today()}-", dir=options.out.resolve())), options.seed)
    kinds = [kind for kind in KINDS if options.only in kind.name and (not kind.small_disk or can_mount())]
    began, outcomes = time.monotonic(), list[Outcome]()
    with contextlib.suppress(KeyboardInterrupt):  # a campaign may be interrupted
        for number in track(range(options.faults), "faults"):
            outcomes.append(campaign.strike(kinds[number % len(kinds)], number))
            (campaign.folder / "faults.md").write_text(table(outcomes) + "\n")
    seconds = time.monotonic() - began
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, {date.today()}"
    print(f"{len(outcomes)} faults in {seconds:.0f} s; {machine}.")
    print(f"A fit of {STEPS} steps, a checkpoint every {EVERY}.\n")
    print(table(outcomes))
    for outcome in outcomes:
        if outcome.note:
            print(f"\n{outcome.kind}, {outcome.lives} lives: {outcome.note}")
    return int(not all(o.ended and o.right for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
