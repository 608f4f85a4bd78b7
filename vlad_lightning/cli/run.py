"""``vlad-cli run``: the stages of a pipeline, each in a separate process.

A stage that is done is skipped: ``{out}/{stage}/done.json`` holds the SHA-256 of its command, its configuration files,
its inputs and the stages before it. Once a stage has run, so do all that follow it. An interrupted training resumes
from its last checkpoint: that hash names the run in its checkpoints (``checkpoints.run``), and a training with another
configuration or other inputs ignores them and starts again.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from vlad_lightning import __version__
from vlad_lightning.cli.arguments import Parser
from vlad_lightning.cli.override_check import check_overrides
from vlad_lightning.cli.stages import PLAIN, SETTINGS, Pipeline, Stage, read_pipeline
from vlad_lightning.cli.terminal import Transcript, has_terminal, output_of_child, read_output
from vlad_lightning.cli.threads import plan_threads
from vlad_lightning.exit_codes import PREEMPTED
from vlad_lightning.files import NOTE_BYTES, configs_folder, read_utf8, set_aside, write_text
from vlad_lightning.limits import check_words

_PASSED_ON = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
_SILENCE = 40.0  # seconds; a training prints a line every 30
_SEED = "seed_everything"  # LightningCLI's only setting without a dot


def main(args: Sequence[str]) -> int:
    """Run a pipeline.

    Args:
        args: the arguments after ``run`` on the command line.

    Returns:
        0 if every stage is done, else the exit code of the stage that failed.

    Raises:
        FileNotFoundError: if the pipeline file, one of its configurations or a data folder does not exist.
        ValueError: if the pipeline file or an override is malformed.
    """
    check_words(args)  # checked here because the stages' parsers would report it much later
    options, rest = _parser().parse_known_args(args)
    pipeline = read_pipeline(options.config, options.out, options.data, options.test_data)
    overridden = override(pipeline, rest)
    check_overrides(pipeline, overridden)
    pipeline = overridden
    _check_data(pipeline)
    code = run(pipeline, force=options.force, dry_run=options.dry_run)
    if code == PREEMPTED:
        again = shlex.join(["vlad-cli", "run", *(arg for arg in args if arg != "--force")])
        print(f"to go on: {again}", file=sys.stderr, flush=True)
    return code


def run(pipeline: Pipeline, force: bool = False, dry_run: bool = False) -> int:
    """Run the stages that are not done, in order, up to the first failure.

    Args:
        pipeline: the pipeline to run.
        force: run the stages that are done, too.
        dry_run: only print what would be run.

    Returns:
        0, or the exit code of the stage that failed; 128 + the signal's number if a signal ended it.
    """
    fresh, digest = force, ""  # fresh: this stage or one before it has to run
    for number, stage in enumerate(pipeline.stages, 1):
        title = f"[{number}/{len(pipeline.stages)}] {stage.name}"
        if not (fresh and dry_run):  # in a dry run, a stage that has not run has left no inputs to hash
            digest = _digest(stage, pipeline, digest)
        fresh = fresh or not _is_done(stage, pipeline.out, digest)
        if not fresh:
            _say(f"{title}: done before, skipped")
        elif dry_run:
            _say(f"{title}: would run: vlad-cli {shlex.join(stage.command_line)}")
        elif code := _run_stage(stage, pipeline.out, digest, title, resumes=not force):
            return code
    if not dry_run:
        for line in closing_words(pipeline):
            _say(line)
    return 0


def closing_words(pipeline: Pipeline) -> list[str]:
    """Return what to look at after a run, the results and the pictures, and the command that uses its pipeline."""
    written = [path for stage in pipeline.stages for path in stage.outputs if path.exists()]
    lines = [f"results: {path}" for path in written if path.name == "results.md"]
    lines += [f"pictures: {path}" for path in written if path.suffix == ".png"]
    folders = [path.parent for path in written if path.name == "model_index.json"]
    command = "vlad-cli generate \"a poster that says 'HELLO'\" --model {} --out hello.png"
    return lines + [f"next: {command.format(shlex.quote(str(folder)))}" for folder in folders]


def override(pipeline: Pipeline, rest: Sequence[str]) -> Pipeline:
    """Append dotted overrides to the stages' command lines.

    ``--trainer.max_steps 10`` goes to every stage but ``synth`` and ``generate``; ``--stage1.trainer.max_steps 10`` to
    ``stage1`` only.

    Args:
        pipeline: the pipeline as read from its file.
        rest: options with their values, as on a command line.

    Raises:
        ValueError: if an option is neither dotted nor known to every stage, if it begins neither with a stage's name
            nor with a settings group, or if a value has no option.
    """
    added: dict[str, list[str]] = {stage.name: [] for stage in pipeline.stages}
    targets: list[str] = []
    for word in rest:
        if word.startswith("--"):
            targets, word = _targets(word, pipeline)
        elif not targets:
            raise ValueError(f"unexpected argument {word!r}; see vlad-cli run --help")
        for name in targets:
            added[name].append(word)
    stages = tuple(replace(stage, args=(*stage.args, *added[stage.name])) for stage in pipeline.stages)
    return replace(pipeline, stages=stages)


def _targets(option: str, pipeline: Pipeline) -> tuple[list[str], str]:
    """Return the names of the stages that get an option, and the option without the stage's name."""
    head, dot, tail = option[2:].partition(".")
    if dot and head in {stage.name for stage in pipeline.stages}:
        return [head], f"--{tail}"
    key = option[2:].partition("=")[0].removesuffix("+")
    if "." not in key and key != _SEED:
        raise ValueError(
            f"unknown option --{key}{_parser().meant(f'--{key}')}; allowed are those of vlad-cli run --help, "
            f"--{_SEED} and dotted ones such as --trainer.max_steps"
        )
    if "." in key and head not in SETTINGS:
        stages = ", ".join(stage.name for stage in pipeline.stages)
        raise ValueError(
            f"--{key}: there is no stage {head!r}; the stages are {stages}, and "
            f"settings of every stage begin with {', '.join(SETTINGS)}"
        )
    return [stage.name for stage in pipeline.stages if stage.command not in PLAIN], option


def _run_stage(stage: Stage, out: Path, digest: str, title: str, resumes: bool) -> int:
    folder = out / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    stamp, log = folder / "done.json", folder / "log.txt"
    if stage.command == "synth":
        _remove_made(stage, stamp)
    _remove_stamp(stamp)
    command = [*stage.command_line, *_run_options(stage, digest, resumes)]
    _say(f"{title}: vlad-cli {shlex.join(map(_from_here, command))}")
    threads, why = plan_threads(os.environ)
    _say(f"{title}: {why}")
    started = time.monotonic()
    code = _execute([sys.executable, "-m", "vlad_lightning", *command], log, threads)
    seconds = round(time.monotonic() - started, 1)
    if code == PREEMPTED:
        return _fail(f"{title}: preempted after {seconds} s; the same command goes on from its newest checkpoint", code)
    if code:
        return _fail(f"{title}: failed with exit code {code} after {seconds} s; its log: {log}", code)
    if missing := [str(path) for path in stage.outputs if not path.exists()]:
        return _fail(f"{title}: ended without writing {', '.join(missing)}; its log: {log}", 1)
    outputs = [str(path.absolute()) for path in stage.outputs]
    _write_stamp(stamp, {"digest": digest, "seconds": seconds, "command": list(stage.command_line), "outputs": outputs})
    _say(f"{title}: done in {seconds} s")
    return 0


def _from_here(argument: str) -> str:
    """Return an absolute path below the working directory as a relative one, and any other argument as it is."""
    path = Path(argument)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else argument


def _run_options(stage: Stage, digest: str, resumes: bool) -> list[str]:
    """Return the extra options of a training, with which it resumes if this same one was interrupted."""
    if stage.command != "fit":
        return []
    own = any(arg.partition("=")[0] == "--ckpt_path" for arg in stage.args)
    known = ["--checkpoints.run", digest[:16], "--checkpoints.overwrite", "true"]
    return [*known, *(["--ckpt_path", "last"] if resumes and not own else [])]


def _remove_made(stage: Stage, stamp: Path) -> None:
    """Remove the folders that this stage wrote according to its stamp, as ``synth`` writes only into empty folders."""
    made = _read_stamp(stamp).get("outputs", [])
    for path in stage.outputs:
        if str(path.absolute()) in made and path.is_dir():
            shutil.rmtree(path)


def _execute(command: list[str], log: Path, threads: dict[str, str]) -> int:
    """Run a process with its output on the terminal and in ``log``, and return its exit code."""
    environment = {**os.environ, **threads, "PYTHONUNBUFFERED": "1"}
    terminal = has_terminal()
    with log.open("wb") as file, output_of_child(terminal) as (reader, writer), _Signals() as signals:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environment)
        os.close(writer)
        with child:
            signals.pass_on_to(child)
            record = Transcript(file).write if terminal else file.write
            for chunk in _chunks(reader, signals.wakeup, "" if terminal else log.parent.name):
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
                record(chunk)
                file.flush()
            child.wait()
    # Lightning may end an interrupted training with code 0, although it is not done
    if signals.received and child.returncode != PREEMPTED:
        return 128 + signals.received[0]
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _chunks(reader: int, wakeup: int, stage: str) -> Iterator[bytes]:
    """Yield the output of a process up to its end; say on the way that the stage is running, unless it is empty.

    ``wakeup`` can be read after a signal. One that arrives just before ``select`` would otherwise be handled after it.
    """
    started = time.monotonic()
    while True:
        while reader not in (ready := select.select([reader, wakeup], [], [], _SILENCE)[0]):
            if ready:
                os.read(wakeup, 4096)
            elif stage:
                _say(f"{stage}: running for {timedelta(seconds=int(time.monotonic() - started))}")
        if not (chunk := read_output(reader)):
            return
        yield chunk


class _Signals:
    """Signals to this process: noted while open, and passed on to a child, those before its start as well."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Signals:
        self.wakeup, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._waker_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in _PASSED_ON}
        return self

    def pass_on_to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for number in self.received:
            child.send_signal(number)

    def _note(self, number: int, _frame: object) -> None:
        self.received.append(number)
        if self._child and number != signal.SIGINT:  # the terminal sends SIGINT to the child as well
            self._child.send_signal(number)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._waker_before)
        os.close(self._waker)
        os.close(self.wakeup)


def _is_done(stage: Stage, out: Path, digest: str) -> bool:
    stamp = _read_stamp(out / stage.name / "done.json")
    return stamp.get("digest") == digest and all(path.exists() for path in stage.outputs)


def _digest(stage: Stage, pipeline: Pipeline, before: str) -> str:
    """Return the SHA-256 of all that determines what a stage does; ``before`` is that of the previous stage."""
    trains = stage.command not in PLAIN
    implied = [configs_folder() / "base.yaml"] if trains else []  # LightningCLI's default configuration
    data = [pipeline.data, pipeline.test_data] if trains else []
    for path in stage.inputs:
        if not path.exists():
            raise FileNotFoundError(f"stage {stage.name!r} reads {path}, which no earlier stage has written")
    facts = {
        "before": before,
        "version": __version__,
        "command": [stage.command, *stage.args],
        "config": [_fingerprint(path) for path in (*implied, *stage.config)],
        "inputs": [_fingerprint(path) for path in (*stage.inputs, *data) if path],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _fingerprint(path: Path) -> list[str]:
    """Return a file's SHA-256, or for a folder that of the names, sizes and times in it, as it is too large to read.

    Hidden entries do not count, since a scan of the folder writes its records there.
    """
    if path.is_dir():
        digest = hashlib.sha256()
        for line in _entries(path):
            digest.update(line.encode(errors="surrogateescape"))
        return [digest.hexdigest()]
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest()]


def _entries(folder: Path, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each visible entry of a folder and its subfolders, in an order that depends only on the names.

    Sizes and times of files are needed: rewriting a file in place changes neither the time nor the entries of its
    folder.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as found:
        visible = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        try:
            status = entry.stat()
        except OSError:  # a broken link, or a link to itself
            yield f"{entry.name}\0absent\n"
            continue
        if not entry.is_dir():
            yield f"{entry.name}\0{status.st_size} {status.st_mtime_ns}\n"
        elif os.path.realpath(entry.path) not in above:  # a link may lead to a parent folder
            yield f"{entry.name}\0folder\n"
            yield from _entries(Path(entry.path), above)
            yield "\0end\n"


def _check_data(pipeline: Pipeline) -> None:
    """Refuse to start if a data folder that no stage makes does not exist."""
    synths = [stage for stage in pipeline.stages if stage.command == "synth"]
    made = {argument.removeprefix("--out=") for stage in synths for argument in stage.args}
    for option, folder in (("--data", pipeline.data), ("--test-data", pipeline.test_data)):
        if folder and not folder.is_dir() and str(folder) not in made:
            raise FileNotFoundError(f"{option}: no folder {str(folder)!r}, and no stage of this pipeline makes it")


def _read_stamp(path: Path) -> dict[str, Any]:
    """Read the stamp that a stage wrote when it was done; empty if it was not done, or if the file is broken."""
    try:
        content = json.loads(read_utf8(path, NOTE_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    known = isinstance(content, dict) and isinstance(content.get("digest"), str)
    return content if known and isinstance(content.get("outputs", []), list) else {}


def _remove_stamp(path: Path) -> None:
    """Remove the stamp before a stage runs again; a file that is not a stamp is set aside."""
    if path.exists() and not _read_stamp(path):
        set_aside(path, "it does not say what the stage did")
    path.unlink(missing_ok=True)


def _write_stamp(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def _say(message: str) -> None:
    print(message, flush=True)


def _fail(message: str, code: int) -> int:
    print(f"vlad-cli run: {message}", file=sys.stderr, flush=True)
    return code


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli run",
        description="Run the stages of a pipeline, each in a separate process; skip those that are done.",
        epilog="Other dotted options go to every stage (--trainer.max_steps 10), or with a stage's name in front to "
        "that stage (--stage1.trainer.max_steps 10).",
    )
    parser.add_argument("--config", required=True, help="the pipeline file, or the name of a shipped one")
    parser.add_argument("--out", type=Path, help="folder to write into, instead of the file's")
    parser.add_argument("--data", type=Path, help="your own posters in MARIO's format; nothing is synthesised then")
    parser.add_argument("--test-data", type=Path, help="your own posters to measure on; default: a split of --data")
    parser.add_argument("--force", action="store_true", help="run every stage, done or not")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")
    return parser
