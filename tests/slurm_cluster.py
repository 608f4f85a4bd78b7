"""Access to the SLURM cluster that tests/slurm/conftest.py starts."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "configs" / "cluster" / "slurm"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")


@dataclass(frozen=True)
class Cluster:
    """The cluster: the environment of its commands."""

    environment: dict[str, str]

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*map(str, command)], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def facts(self, job: str) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", "--oneliner", job).stdout))

    def wait(self, job: str, logs: Path, seconds: float = 900) -> dict[str, str]:
        """Wait until the job has ended; requeued jobs are not followed."""
        end = time.monotonic() + seconds
        while (facts := self.facts(job))["JobState"] not in ENDED:
            assert time.monotonic() < end, f"{facts['JobState']}\n{logs_of(logs)}"
            time.sleep(0.5)
        return facts

    def wait_for(self, path: Path, job: str, logs: Path, after: float = 0, seconds: float = 600) -> None:
        """Wait until there is a file newer than ``after``."""
        end = time.monotonic() + seconds
        while not (path.exists() and path.stat().st_mtime > after):
            state = self.facts(job)["JobState"]
            assert state not in ENDED, f"{job} {state}\n{logs_of(logs)}"
            assert time.monotonic() < end, f"no {path}\n{logs_of(logs)}"
            time.sleep(0.2)


def logs_of(folder: Path) -> str:
    return "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in sorted(folder.rglob("*.log")))
