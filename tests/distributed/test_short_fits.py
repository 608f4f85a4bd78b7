"""Compare the bytes that a real stage sends, under two strategies in two real processes, with the arithmetic."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from scaling import predicted
from short_fits import Record, Task, run


@pytest.fixture(scope="module")
def records(posters: Path) -> dict[str, list[Record]]:
    tasks = [Task("stage0_align", strategy, 4, 1, str(posters)) for strategy in ("ddp", "fsdp")]
    return dict(zip(("ddp", "fsdp"), run(tasks, 2), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "tolerance"), [("ddp", 0.001), ("fsdp", 0.005)])
def test_a_step_sends_the_bytes_of_the_arithmetic(
    records: dict[str, list[Record]], strategy: str, tolerance: float
) -> None:
    ranks = records[strategy]
    counted = statistics.mean(sum(call.sent for call in record.calls) for record in ranks)
    assert counted == pytest.approx(predicted(ranks[0]), rel=tolerance)
    assert all(len(record.ms) == 1 for record in ranks)
