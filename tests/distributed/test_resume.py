"""Two processes resume: one of them compares the checksum, and both read the weights once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distributed.processes import run_processes
from distributed.resume_process import command

from vlad_lightning.cli.launcher import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_one_process_verifies_for_both_and_each_reads_the_weights_once(posters: Path, tmp_path: Path) -> None:
    assert main(command(posters, tmp_path, 2, devices=1)) == 0
    run_processes(2, Path(__file__).with_name("resume_process.py"), str(posters), str(tmp_path), limit=500)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["openings"], second["openings"]) == (4, 3)  # the header is two of them
    assert first["readings"] == pytest.approx(2.1, abs=0.1)
    assert second["readings"] == pytest.approx(1.1, abs=0.1)
    # the newest was damaged by then, which only the first process has noticed
    assert first["from"] == second["from"] == "step-000000002.ckpt"
    assert first["moments"] == second["moments"]
