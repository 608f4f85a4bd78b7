"""The checks of ``vlad-cli doctor``: every process makes them, and the first process reports."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch.distributed as dist

from vlad_lightning.cli.doctor.check import Check, Level, table, worst
from vlad_lightning.cli.doctor.compare import compare
from vlad_lightning.cli.doctor.facts import facts_of, gather
from vlad_lightning.cli.doctor.process import Meeting, ProcessInfo, find_process, own_environment
from vlad_lightning.cli.doctor.together import all_reduce, clocks, join, shared_files
from vlad_lightning.cli.doctor.weights import check_sources, read_config
from vlad_lightning.files import write_text


def examine(options: argparse.Namespace) -> int:
    """Make the checks, alone or together with the other processes, and report them.

    Args:
        options: the parsed command line.

    Returns:
        0 if nothing failed, else 1; the same in every process.
    """
    started = time.monotonic()
    config = read_config(options.config, options.out, options.data_root) if options.config else None
    process = find_process(own_environment())
    out = Path(config["out"] if config else options.out or "runs")
    report = Report(process)
    try:
        level = _examine(Meeting(process, options.timeout), out, check_sources(config) if config else [], report)
    except ConnectionError as error:
        advice = "look at the other processes' logs; is that port open between the nodes?"
        report.add([Check("meeting", "fail", str(error), advice)])
        level = "fail"
    if process.rank == 0:
        _end(report, time.monotonic() - started, options.json)
    return int(level == "fail")


class Report:
    """The checks of a process, printed at once because later checks may hang or end the process.

    Args:
        process: this process. The first process prints all checks to stdout, the others only failed checks to stderr.
    """

    def __init__(self, process: ProcessInfo) -> None:
        self.process = process
        self.checks: list[Check] = []

    def add(self, checks: Sequence[Check]) -> None:
        """Print the checks below the earlier ones."""
        width = max((len(check.name) for check in self.checks), default=0)
        self.checks += checks
        if checks and self.process.rank == 0:
            print(table(checks, width), flush=True)
        elif worst(checks) == "fail":
            print(f"{self.process.name}:\n{table(checks)}", file=sys.stderr, flush=True)


def _examine(meeting: Meeting, out: Path, sources: list[Check], report: Report) -> Level:
    """Report this process's checks, nearly all of which the first process makes; return the level of all processes."""
    process = meeting.process
    meeting.set(f"facts/{process.rank}", json.dumps(asdict(gather(process, out, sources))))
    report.add(_gathered(meeting, out) if process.rank == 0 else [])
    level = meeting.agree("alone", worst(report.checks))
    if level == "fail" or process.world_size == 1:  # collectives would hang, or fail for the same reason
        return level
    report.add(_together(meeting, out))
    return meeting.agree("together", worst(report.checks))


def _gathered(meeting: Meeting, out: Path) -> list[Check]:
    """Return the checks that the first process makes from the facts of all processes."""
    process = meeting.process
    if missing := meeting.missing("facts"):
        names = ", ".join(map(str, missing))
        found = (
            f"{len(missing)} of {process.world_size} processes did not come in {meeting.seconds:.0f} s: ranks {names}"
        )
        return [
            Check("meeting", "fail", found, f"look at their logs; can they reach {process.address}:{process.port}?")
        ]
    everyone = [facts_of(json.loads(meeting.get(f"facts/{rank}"))) for rank in range(process.world_size)]
    met = f"{process.world_size} processes started by {process.launcher} met at {process.address}:{process.port}"
    first = Check("meeting", "ok", met if process.world_size > 1 else "one process alone")
    return [first, *compare(everyone, str(out))]


def _together(meeting: Meeting, out: Path) -> list[Check]:
    try:
        device = join(meeting)
        return [all_reduce(device), clocks(meeting), shared_files(meeting, out)]
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        advice = "name the network: NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME; NCCL_DEBUG=INFO shows more"
        return [Check("process group", "fail", reason, advice)]
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _end(report: Report, seconds: float, file: Path | None) -> None:
    checks, level = report.checks, worst(report.checks)
    print(f"{level}: {len(checks)} checks of {report.process.world_size} processes in {seconds:.1f} s")
    if file:
        content = {"level": level, "host": platform.node(), "seconds": seconds, "checks": [asdict(c) for c in checks]}
        text = json.dumps(content, indent=1) + "\n"
        write_text(file, text)
