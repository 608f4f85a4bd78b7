from __future__ import annotations

import pytest
import torch
import train_step
from train_step import SIZES, sweep

CPU = torch.device("cpu")


def test_a_sweep_yields_each_batch_when_measured_and_ends_when_memory_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []

    def speed(size: object, batch: int, steps: int, device: object) -> tuple[float, float]:
        if batch > 2:
            raise torch.OutOfMemoryError("out of memory")
        measured.append(batch)
        return 2.0 * batch, 1.0

    monkeypatch.setattr(train_step, "speed", speed)
    monkeypatch.setattr(train_step, "matmul_peak", lambda device: 1e12)
    monkeypatch.setattr(train_step, "step_flops", lambda size, device: 1e10)
    rows = sweep(SIZES["tiny"], [1, 2, 4, 8], 1, CPU)
    seen = [(row, list(measured)) for row in rows]
    assert [row.split("|")[1:3] for row, _ in seen[-3:]] == [
        [" 1 ", " 2.00 "],
        [" 2 ", " 4.00 "],
        [" 4 ", " does not fit "],
    ]
    assert [done for _, done in seen[-3:]] == [[1], [1, 2], [1, 2]]
    assert "2.0 %" in seen[-3][0]
