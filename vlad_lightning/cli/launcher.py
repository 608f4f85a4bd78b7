"""``vlad-cli``: answers help, version and typing errors at once, and imports a command only when it is run.

Importing torch and Lightning takes ten seconds; this file's top-level imports only need the standard library.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from vlad_lightning import __version__

USAGE_ERROR = 2  # argparse's own exit code
INTERRUPTED = 130  # the shell's: 128 + SIGINT

_COMMANDS = {
    "fit": "train one stage: vlad-cli fit --config configs/mini/stage0_align.yaml",
    "validate": "one pass over the validation split",
    "test": "measure a checkpoint and write the results table",
    "predict": "generate the prompts of a prompt data module",
    "run": "all stages of a pipeline, one after the other: vlad-cli run --config configs/pipeline_mini.yaml",
    "doctor": "check ranks, network, disks, versions and weights, alone or on every task: srun vlad-cli doctor",
    "annotate": "write your own pictures, with the words read on them, in MARIO's format",
    "prepare": "write a data set of millions of samples for training, from MARIO's metadata or any folder",
    "cache": "store the latents of a prepared data set, so that stage 2 need not encode its images in every epoch",
    "inspect": "show what is in a data set, with plots and pictures: vlad-cli inspect DIR",
    "synth": "write synthetic posters in MARIO's format",
    "export": "write a stage-2 checkpoint as a pipeline folder",
    "generate": "generate one prompt: vlad-cli generate \"a poster that says 'HELLO'\" --out out.png",
    "studio": "generate images and edit their layouts in the browser: vlad-cli studio",
    "study": "ask people about the images of several systems: vlad-cli study make|serve|report",
    "evaluate": "score images of any system for a suite of prompts, and compare systems",
}

_CONFIGURED = ("fit", "validate", "test", "predict", "export", "cache", "doctor")  # they read files after --config


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line without the program's name; None reads ``sys.argv``.

    Returns:
        The exit code: 0, the command's own, 2 for a usage error or bad input, 130 when interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else USAGE_ERROR
    if args[0] == "--version":
        print(f"vlad-cli {__version__}")
        return 0
    if args[0] not in _COMMANDS:
        return _complain("vlad-cli", _unknown(args[0]))
    return _guarded(args[0], args[1:])


def _guarded(command: str, args: list[str]) -> int:
    """Run the command; bad input becomes one line on stderr instead of a traceback."""
    # By default, waiting OpenMP threads spin for milliseconds, and on a busy machine on the core that another thread
    # needs; a sixth of that is as fast on an idle machine (docs/decisions/0005). Set it before torch loads OpenMP.
    os.environ.setdefault("GOMP_SPINCOUNT", "50000")
    if command == "fit" and hasattr(signal, "pthread_sigmask"):
        # SIGUSR1, a scheduler's warning, ends a process by default; block it until health.Preemption handles it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        if command in _CONFIGURED:
            from vlad_lightning.cli import config_files

            config_files.require(args)
        if command in _CONFIGURED[:4]:
            from vlad_lightning.cli import key_help

            if key_help.asked(args):
                key_help.show(command, args)
                return 0
        return _entry(command)(args) or 0
    except KeyboardInterrupt:
        return _complain(f"vlad-cli {command}", "interrupted", INTERRUPTED)
    except Exception as error:
        if _came_of_ctrl_c(error):
            return _complain(f"vlad-cli {command}", "interrupted", INTERRUPTED)
        if not _is_bad_input(error) or os.environ.get("VLAD_TRACEBACK", "0") not in ("", "0"):
            raise
        return _complain(f"vlad-cli {command}", str(error) or type(error).__name__)


def _came_of_ctrl_c(error: BaseException | None) -> bool:
    """Return whether an interrupt led to this error: locks and class statements that it crosses raise their own."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_bad_input(error: Exception) -> bool:
    # MisconfigurationException is Lightning's error for contradictory settings; importing it takes seconds
    return isinstance(error, ValueError | OSError) or type(error).__name__ == "MisconfigurationException"


def _entry(command: str) -> Callable[[list[str]], int | None]:
    """Import the function that runs ``command``, and return it."""
    if command == "run":
        from vlad_lightning.cli import run

        return run.main
    if command in ("annotate", "inspect", "prepare", "synth"):
        main: Callable[[list[str]], None] = importlib.import_module(f"vlad_lightning.cli.{command}").main
        return main
    if command == "doctor":
        from vlad_lightning.cli.doctor import command as doctor

        return doctor.main
    if command == "generate":
        from vlad_lightning.cli import generate

        return generate.main
    if command == "studio":
        from vlad_lightning.cli import studio

        return studio.main
    if command == "study":
        from vlad_lightning.cli import study

        return study.main
    if command == "evaluate":
        from vlad_lightning.cli import evaluate

        return evaluate.main
    if command == "cache":
        from vlad_lightning.cli.cache_latents import cache

        return cache
    if command == "export":
        from vlad_lightning.cli.export import export

        return export
    from vlad_lightning.cli import fit

    return lambda args: fit.main([command, *args])


def _help() -> str:
    width = max(map(len, _COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in _COMMANDS.items())
    return (
        "usage: vlad-cli COMMAND [OPTIONS]\n\n"
        f"Text-to-image diffusion that draws legible words (VLAD, arXiv 2501.00917), version {__version__}.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help   this text; `vlad-cli COMMAND --help` shows a command's options\n"
        "  --version    the version\n\n"
        "environment:\n  VLAD_TRACEBACK=1   show the traceback behind an error message\n\n"
        "A configuration file is code: it names the classes that are built. Run only those you trust."
    )


def _unknown(command: str) -> str:
    near = difflib.get_close_matches(command, _COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown command {command!r}{hint} (commands: {', '.join(_COMMANDS)})"


def _complain(program: str, message: str, code: int = USAGE_ERROR) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return code
