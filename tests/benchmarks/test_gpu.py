from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gpu
import pytest
import torch
from gpu import TINY, Bench, Clock, Report, main


def test_a_missing_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "gpu.md")]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "no GPU" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.no_cover
@pytest.mark.slow
def test_a_dry_run_on_the_cpu_fills_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[torch.device] = []
    monkeypatch.setattr(gpu, "run_tests", lambda device, seconds: ran.append(device) or [("test_a", "passed, 0.1 s")])
    monkeypatch.setattr(gpu, "_COMPILED", gpu._EAGER)  # compilation is tested in tests/modules/test_vfe_settings.py
    out = tmp_path / "runs" / "gpu.md"
    assert main(["--device", "cpu", "--tiny", "--minutes", "30", "--out", str(out)]) == 0
    assert ran == [torch.device("cpu")]
    table = out.read_text()
    assert "no GPU used" in table
    assert torch.__version__ in table
    assert "| test_a | passed, 0.1 s |" in table
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "| tiny |" in line]
    assert [row[:3] for row in rows[:4]] == [
        ["tiny", str(batch), mode] for mode in ("eager", "compiled") for batch in TINY.batches
    ]
    assert [row[:2] for row in rows[4:]] == [["tiny", str(steps)] for steps in TINY.sampling]
    results = [float(cell.removesuffix(" %")) for row in rows for cell in row[1:] if cell not in ("eager", "compiled")]
    assert len(results) == 4 * 4 + 2 * 3
    assert all(value >= 0 for value in results)
    assert all(float(row[3]) > 0 for row in rows[:4])


def bench(minutes: float = 60, **changes: Any) -> Bench:
    return Bench(dataclasses.replace(TINY, **changes), torch.device("cpu"), Clock(minutes))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "forget", lambda device: None)  # collecting garbage takes seconds in a large process
    monkeypatch.setattr(gpu, "matmul_peak", lambda device: 1e12)
    monkeypatch.setattr(gpu, "step_flops", lambda size, device: 1e10)
    monkeypatch.setattr(gpu, "speed", lambda size, batch, steps, device, acceleration: (2.0 * batch, 1.0))
    monkeypatch.setattr(Bench, "_generated", lambda self, size, steps: (0.1 * steps, 3.0))


@pytest.mark.usefixtures("_quick")
def test_the_share_is_relative_to_the_measured_peak() -> None:
    report = bench().fill()
    assert report.training["tiny", 2, "eager"] == (4.0, 1.0, 0.04)
    assert not report.failed
    assert "| tiny | 2 | compiled | 4.00 | 4.0 % | 1.0 |" in report.markdown("here")
    assert "| tiny | 3 | 0.30 | 3.0 |" in report.markdown("here")


@pytest.mark.usefixtures("_quick")
def test_measurements_without_time_left_are_named() -> None:
    report = bench(minutes=0.5).fill()
    assert report.training["tiny", 1, "eager"] == (2.0, 1.0, 0.02)
    assert report.training["tiny", 1, "compiled"] == "no time left"
    assert "| tiny | 1 | compiled | no time left | - | - |" in report.markdown("here")


@pytest.mark.usefixtures("_quick")
def test_a_sweep_ends_when_memory_is_full_and_a_broken_kernel_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def speed(size: Any, batch: int, steps: int, device: Any, acceleration: Any) -> tuple[float, float]:
        if acceleration.compile:
            raise RuntimeError("no | Triton\nhere")
        if batch > 2:
            raise torch.OutOfMemoryError("out of memory")
        return 1.0, 1.0

    monkeypatch.setattr(gpu, "speed", speed)
    report = bench(batches=(1, 2, 4, 8)).fill()
    eager = {batch: found for (_, batch, mode), found in report.training.items() if mode == "eager"}
    assert list(eager) == [1, 2, 4]
    assert eager[4] == "does not fit"
    assert report.training["tiny", 1, "compiled"] == "FAILED: RuntimeError: no / Triton"
    assert report.failed
    monkeypatch.setattr(gpu, "run_tests", lambda device, seconds: [])
    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.md")]) == 1


@pytest.mark.usefixtures("_quick")
def test_a_failed_test_fails_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "run_tests", lambda device, seconds: [("test_a", "FAILED: assert 1 == 2")])
    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.md")]) == 1
    assert "| test_a | FAILED: assert 1 == 2 |" in (tmp_path / "gpu.md").read_text()


def test_outcomes_are_read_from_pytests_report() -> None:
    cases = ElementTree.fromstring(
        '<s><testcase name="a" time="1.25"/><testcase name="b"><failure message="assert 1 | 2&#10;more"/></testcase>'
        '<testcase name="c"><skipped message="needs an accelerator"/></testcase></s>'
    )
    assert [gpu._outcome(case) for case in cases] == [
        "passed, 1.2 s",
        "FAILED: assert 1 / 2",
        "skipped: needs an accelerator",
    ]


def test_an_empty_report_is_still_a_table() -> None:
    assert Report().markdown("a card, today.").startswith("a card, today.\n")
