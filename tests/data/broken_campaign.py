"""Many posters, some broken in every known way: prepared, cached and trained on, with kill -9 in the middle of each.

``python tests/data/broken_campaign.py --samples 20000 --out runs/broken`` does everything twice, undisturbed and killed
at random moments, and compares: the prepared set and its latents must be the same files, and each step of the training
must read the same samples. It writes ``broken.md``, and its exit status is 1 if anything differs. It takes half an hour
on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hostile import KINDS

from vlad_lightning.cli.launcher import main as vlad_cli
from vlad_lightning.data.prepared_source import PreparedSource
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.modules import VFEModule
from vlad_lightning.types import Batch

_SHARE = 0.02  # of the posters that are broken
_SIDE, _BATCH = 64, 16
_SAVED = 10  # steps between checkpoints
_TIMED = frozenset(("seconds", "started", "finished", "created"))  # entries of reports that no two runs share
_FIT = "fit-process"  # the first argument of a process that fits
UNDISTURBED, KILLED = "undisturbed", "killed"


def trained_on(out: Path, args: list[str]) -> None:
    """Run ``vlad-cli fit`` of stage 2 in this process, and append the keys of each batch to ``out`` before its step."""
    own = VFEModule.training_step

    def training_step(module: VFEModule, batch: Batch, batch_idx: int) -> Any:
        with out.open("a") as file:
            file.write(json.dumps([module.global_step, list(batch.keys)]) + "\n")
        return own(module, batch, batch_idx)

    VFEModule.training_step = training_step  # type: ignore[method-assign]
    vlad_cli(args)


def command(*args: str, keys: Path | None = None) -> subprocess.Popen[bytes]:
    """Start ``vlad-cli`` in a process group of its own; with ``keys``, a fit that writes there what it reads."""
    program = ["-m", "vlad_lightning"] if keys is None else [__file__, _FIT, str(keys)]
    return subprocess.Popen([sys.executable, *program, *args], process_group=0)


def undisturbed(*args: str, keys: Path | None = None) -> float:
    """Run a command, and return its seconds."""
    began = time.monotonic()
    assert command(*args, keys=keys).wait() == 0, args
    return time.monotonic() - began


def killed(
    rng: random.Random,
    written: Path,
    grown: int,
    kills: int,
    first: Sequence[str],
    again: Sequence[str],
    keys: Path | None = None,
) -> int:
    """Run a command, kill it where it is at random shares of its work, and go on until it ends; return the kills.

    Args:
        rng: draws the shares, and up to half a second from each of them to the kill.
        written: file or folder that grows as the command works.
        grown: bytes by which an undisturbed run has made it grow; not seconds, which depend on how busy the machine is.
        kills: number of kills.
        first: arguments of the first life.
        again: arguments of the lives after it.
        keys: as :func:`command`'s.
    """
    began = size(written)
    for number, share in enumerate(sorted(rng.uniform(0.02, 0.9) for _ in range(kills))):
        process = command(*(again if number else first), keys=keys)
        while size(written) - began < share * grown:
            assert process.poll() is None, f"it ended before {share:.2f} of its work was written"
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert command(*(again if kills else first), keys=keys).wait() == 0
    return kills


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder, half-written ones included; 0 if there is none."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # it has been renamed since the folder was listed
            total += file.stat().st_size
    return total


def spoil(root: Path, rng: random.Random) -> Counter[str]:
    """Break a share of the posters, each kind as often as any other, and return how often each was used."""
    folders = sorted(path.parent for path in root.rglob("image.jpg"))
    chosen = rng.sample(folders, round(_SHARE * len(folders)))
    used: Counter[str] = Counter()
    once = {kind.name for kind in KINDS if kind.large}  # those take seconds each
    for number, folder in enumerate(chosen):
        kind = KINDS[number % len(KINDS)]
        if kind.name in once and used[kind.name]:
            continue
        if isinstance(kind.spoil(folder), Path):  # it has renamed the folder, to the same name each time
            once.add(kind.name)
        used[kind.name] += 1
    return used


def contents(root: Path) -> dict[str, str]:
    """Return the hash of each file of a folder, reports without times and without the folder's name.

    Hidden files are what killed processes have left, which a later run removes: a young one may be at work.
    """
    found = {}
    for path in sorted(path for path in root.rglob("[!.]*") if path.is_file()):
        content = path.read_bytes().replace(str(root).encode(), b"")
        if path.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
        found[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(entry) for name, entry in value.items() if name not in _TIMED}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def steps_of(read: Path) -> dict[int, list[list[str]]]:
    """Return the keys of each step, once for each time that it was trained."""
    steps: dict[int, list[list[str]]] = {}
    for line in read.read_text().splitlines():
        step, keys = json.loads(line)
        steps.setdefault(step, []).append(keys)
    return steps


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=60, help="of the training; default: %(default)s")
    parser.add_argument("--kills", type=int, default=3, help="of each command; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    options = parser.parse_args()
    rng, out = random.Random(options.seed), options.out.resolve()
    out.mkdir(parents=True)
    write_posters(out / "posters", options.samples, _SIDE, workers=2)
    used = spoil(out / "posters", rng)
    print(f"{used.total()} of {options.samples} posters are broken, in {len(used)} ways", flush=True)
    rows = [_prepared(out, rng, options.kills), _cached(out, rng, options.kills)]
    rows.append(_trained(out, rng, options.kills, options.steps))
    header = ["| command | seconds undisturbed | kills | compared | differ |", "|---|---|---|---|---|"]
    table = [f"| {name} | {seconds:.0f} | {kills} | {n} | {len(differ)} |" for name, seconds, kills, n, differ in rows]
    source = PreparedSource(str(out / UNDISTURBED))
    source.setup()
    told = (
        f"{len(source):,} of {options.samples:,} posters are prepared; {used.total()} were broken, in {len(used)} ways"
    )
    (out / "broken.md").write_text("\n".join([told, "", *header, *table, ""]))
    print((out / "broken.md").read_text())
    for name, _, _, _, differ in rows:
        for each in differ[:20]:
            print(f"{name}: {each} differs")
    sys.exit(any(differ for *_, differ in rows))


Outcome = tuple[str, float, int, str, list[str]]
"""A command: its name, its seconds undisturbed, the kills, what was compared, and what of it differs."""


def _prepared(out: Path, rng: random.Random, kills: int) -> Outcome:
    args = {name: _prepare(out, name) for name in (UNDISTURBED, KILLED)}
    seconds = undisturbed(*args[UNDISTURBED])
    done = killed(rng, out / KILLED, size(out / UNDISTURBED), kills, args[KILLED], args[KILLED])
    return "prepare", seconds, done, *_compared(out)


def _prepare(out: Path, name: str) -> list[str]:
    return ["prepare", f"--folder={out}/posters", f"--out={out}/{name}", f"--size={_SIDE}", "--workers=2"]


def _cached(out: Path, rng: random.Random, kills: int) -> Outcome:
    for stage, config in (("stage0", "stage0_align"), ("stage1", "stage1_tlg")):
        undisturbed("fit", f"--config=mini/{config}.yaml", *_shared(out, UNDISTURBED, 2), f"--stage={stage}")
    args = {
        name: ["cache", "--config=mini/stage2_vfe.yaml", f"--out={out}/runs", f"--data.root={out}/{name}"]
        for name in (UNDISTURBED, KILLED)
    }
    before = size(out / UNDISTURBED)
    seconds = undisturbed(*args[UNDISTURBED])
    grown = size(out / UNDISTURBED) - before
    done = killed(rng, out / KILLED, grown, kills, args[KILLED], args[KILLED])
    return "cache", seconds, done, *_compared(out)


def _compared(out: Path) -> tuple[str, list[str]]:
    whole, again = contents(out / UNDISTURBED), contents(out / KILLED)
    differ = [name for name in sorted(whole.keys() | again.keys()) if whole.get(name) != again.get(name)]
    return f"{len(whole)} files", differ


def _shared(out: Path, name: str, steps: int) -> list[str]:
    shared = [f"--out={out}/runs", f"--data.root={out}/{name}", f"--data.batch_size={_BATCH}"]
    shared += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", f"--trainer.max_steps={steps}"]
    return [*shared, f"--trainer.val_check_interval={steps}", f"--checkpoints.every_n_steps={min(_SAVED, steps)}"]


def _trained(out: Path, rng: random.Random, kills: int, steps: int) -> Outcome:
    keys, args = {}, {}
    for name in (UNDISTURBED, KILLED):
        keys[name] = out / f"{name}.jsonl"
        args[name] = ["fit", "--config=mini/stage2_vfe.yaml", *_shared(out, name, steps)]
        args[name] += [f"--stage=stage2_{name}", "--data.latents=true"]
    seconds = undisturbed(*args[UNDISTURBED], keys=keys[UNDISTURBED])
    grown = size(keys[UNDISTURBED])
    done = killed(rng, keys[KILLED], grown, kills, args[KILLED], [*args[KILLED], "--ckpt_path=last"], keys[KILLED])
    whole, again = steps_of(keys[UNDISTURBED]), steps_of(keys[KILLED])
    assert whole.keys() == set(range(steps))
    assert all(len(each) == 1 for each in whole.values())
    once = [key for (keys,) in whole.values() for key in keys]
    differ = [f"{key} is read twice" for key, count in Counter(once).items() if count > 1]
    differ += [f"step {n}" for n in whole if any(keys != whole[n][0] for keys in again.get(n, [[]]))]
    return "fit", seconds, done, f"{steps} steps, {len(once)} samples", differ


if __name__ == "__main__":
    if sys.argv[1:2] == [_FIT]:
        trained_on(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
