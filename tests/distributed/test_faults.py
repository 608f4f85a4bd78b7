"""One fault of each kind; ``make faults`` has more of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("fault_campaign.py")
KINDS = 19


def test_a_fit_survives_one_fault_of_every_kind(tmp_path: Path) -> None:
    command = [sys.executable, str(CAMPAIGN), "--faults", str(KINDS), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert f"| all | {KINDS} | {KINDS} | 0 | |" in done.stdout
