"""Checks the overrides of ``vlad-cli run`` before its first stage: a stage would report a typing error much later."""

from __future__ import annotations

import subprocess
import sys

from vlad_lightning.cli.stages import PLAIN, Pipeline, Stage


def check_overrides(before: Pipeline, after: Pipeline) -> None:
    """Refuse overrides that the configuration parser refuses; it needs seconds, so it is only called if there are any.

    Overrides for every stage are checked in the first one: a key of another class than the first stage's is refused
    by that stage, too.

    Args:
        before: the pipeline as its file gives it.
        after: the pipeline with the overrides.

    Raises:
        ValueError: naming the stage, with the parser's reason.
    """
    checked: set[tuple[str, ...]] = set()
    for old, new in zip(before.stages, after.stages, strict=True):
        added = new.args[len(old.args) :]
        if added and added not in checked and new.command not in (*PLAIN, "export"):
            checked.add(added)
            _check(new)


def _check(stage: Stage) -> None:
    # in another process, since what this one imports stays in memory during all stages
    command = [sys.executable, "-m", "vlad_lightning", *stage.command_line, "--print_config"]
    parsed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if parsed.returncode and parsed.stderr:
        reason = parsed.stderr.splitlines()[-1].removeprefix(f"vlad-cli {stage.command}: ")
        raise ValueError(f"stage {stage.name!r}: {reason}")
